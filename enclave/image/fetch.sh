#!/usr/bin/env bash
# Gets what images are made of, besides the enclave: a kernel (kernel/build.sh) and the firmware (firmware/build.sh), each
# built from Debian's source package.
#   enclave/image/fetch.sh DIR [debug]        # with `debug`, the debug image's kernel too
# What is fetched, and what is built of it, is compared with inputs.sha256, kernel/inputs.sha256 and firmware/inputs.sha256.
# What DIR has already stays; POSTERN_RELEASE may be the address of a release of Postern that has the same files, which are then
# taken instead of built. A package that the distribution has replaced by a newer one is not taken: then they must come from a
# release.
set -euo pipefail
(($# == 1)) || [[ $# == 2 && $2 == debug ]] || { echo "usage: $0 DIR [debug]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
has() { grep "  $1\$" "$here/inputs.sha256" | sha256sum --status --check 2> /dev/null; }
missing=()
for name in vmlinuz firmware.fd ${2:+vmlinuz-debug}; do
    has "$name" && continue
    if [[ -n ${POSTERN_RELEASE-} ]]; then
        /usr/lib/apt/apt-helper -q -o "APT::Sandbox::User=$(id -un)" download-file "$POSTERN_RELEASE/$name" "$name.new" &&
            mv "$name.new" "$name" || true
        has "$name" && continue
    fi
    missing+=("$name")
done
((${#missing[@]} > 0)) || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{kernel,firmware}
. "$here/apt.sh"
apt_apart "$work" 'deb Debian-Security bookworm-security' 'deb Debian bookworm' 'deb-src Debian trixie'
# The packages that a list of digests names, by version.
download() { sed -nE 's/.*  ([^_]*)_(.*)_.*\.deb$/\1=\2/p' "$1" | sed 's/%3a/:/' | xargs "${apt[@]}" download; }

kernels=() firmware=
for name in "${missing[@]}"; do
    if [[ $name == firmware.fd ]]; then firmware=$name; else kernels+=("$name"); fi
done
if ((${#kernels[@]} > 0)); then
    (cd "$work/kernel" && download "$here/kernel/inputs.sha256")
    "$here/kernel/build.sh" "$work/kernel" . "${kernels[@]}"
fi
if [[ -n $firmware ]]; then
    (
        cd "$work/firmware"
        download "$here/firmware/inputs.sha256"
        edk2=$(sed -n 's/.*  \([^_]*\)_\(.*\)\.debian\.tar\.xz$/\1=\2/p' "$here/firmware/inputs.sha256")
        # Only the archives, whose hashes are known: mirrors drop the small file that names them.
        "${apt[@]}" source --print-uris "$edk2" | tr -d "'" | awk '/\.tar\.xz / { print $1, $2 }' |
            while read -r uri name; do /usr/lib/apt/apt-helper "${apt_options[@]}" download-file "$uri" "$name"; done
    )
    "$here/firmware/build.sh" "$work/firmware" "$firmware"
fi
for name in "${missing[@]}"; do
    has "$name" || { echo "$0: $name is another one than inputs.sha256 says: $(sha256sum "$name")" >&2; exit 1; }
done
