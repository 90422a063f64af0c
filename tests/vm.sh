#!/usr/bin/env bash
# Runs a command with what booting the enclave's VM in emulation takes: QEMU and a vsock device in user space, which are
# got if they are not there (nothing that is installed changes), the image's inputs, and the programs that go into it.
#   tests/vm.sh cargo test --release -p postern-tests --test vm -- --ignored --nocapture
# Without a command it gets all that, and no more. Two at a time do nothing twice. With POSTERN_DEBUG_IMAGE it gets the debug
# image's kernel too, which takes minutes and which only `vm::by_hand` wants.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/target/tools
mkdir -p "$tools"
exec 9> "$tools/lock"
flock 9

# All that takes long is in process groups of its own, which end with this script, and has not got the lock: even of one that was
# killed (-9), nothing keeps the next one waiting.
set -m
begin() { "$@" >&2 9>&- & }
run() {
    begin "$@"
    wait "$!"
}
trap 'for job in $(jobs -p); do kill -- "-$job" 2> /dev/null || true; done' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What the kernel is built with (enclave/image/kernel/build.sh), where it is missing.
sudo=; ((EUID == 0)) || sudo=sudo
absent=()
for program in bc xz patch; do command -v "$program" > /dev/null || absent+=("$program"); done
if ((${#absent[@]} > 0)); then
    # (Not beside: sudo may ask for a password.)
    { $sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends bc xz-utils patch; } >&2 9>&-
fi

# Side by side: each has long stretches that keep one processor busy.
begin "$root/enclave/image/fetch.sh" "$root/target/image-inputs" ${POSTERN_DEBUG_IMAGE:+debug}
fetching=$!
programs() { "$root/enclave/image/init.sh" && "$root/enclave/image/init.sh" postern-simulation postern-simulated-vm; }
begin programs
building=$!
# Barely optimised: it takes longer to build than it ever runs. (Not --debug: its checks of overflows end it.)
run env CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install --quiet vhost-device-vsock --version 0.3.0 --locked --root "$tools"
wait "$fetching"
wait "$building"

# QEMU, unless it is installed, and the firmware that the image's is compared with. As if nothing were to be replaced:
# packages that are installed are not fetched again, nor others changed.
own_qemu=$tools/qemu/run
if ! command -v qemu-system-x86_64 > /dev/null && [[ ! -x $own_qemu ]]; then wants_qemu=1; fi
packages() {
    local work
    work=$(mktemp -d)
    trap "rm -rf '$work'" EXIT
    mkdir "$work"/{qemu,ovmf}
    . "$root/enclave/image/apt.sh"
    apt_apart "$work" 'deb Debian bookworm' 'deb Debian bookworm-backports'
    if [[ -n ${wants_qemu-} ]]; then
        "${apt[@]}" install --yes --download-only --no-install-recommends -t bookworm-backports qemu-system-x86
        for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/qemu"; done
        cat > "$work/qemu/run" <<'RUN'
#!/usr/bin/env bash
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH=$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu
exec "$here/usr/bin/qemu-system-x86_64" -L "$here/usr/share/qemu" -L "$here/usr/share/seabios" "$@"
RUN
        chmod +x "$work/qemu/run"
        rm -rf "$tools/qemu"
        mv "$work/qemu" "$tools/qemu"
    fi
    (cd "$work" && "${apt[@]}" download ovmf)
    dpkg -x "$work"/ovmf_*.deb "$work/ovmf"
    cp "$work/ovmf/usr/share/ovmf/OVMF.fd" "$tools/OVMF.fd"
}
if [[ -n ${wants_qemu-} || ! -e $tools/OVMF.fd ]]; then run packages; fi
if [[ -x $own_qemu ]]; then
    mkdir -p "$tools/bin"
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$own_qemu" > "$tools/bin/qemu-system-x86_64.new"
    chmod +x "$tools/bin/qemu-system-x86_64.new"
    mv "$tools/bin/qemu-system-x86_64.new" "$tools/bin/qemu-system-x86_64"
fi
exec 9>&-
(($# == 0)) || PATH=$tools/bin:$PATH exec "$@"
