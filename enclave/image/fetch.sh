#!/usr/bin/env bash
# Gets what the image is made of, besides the enclave itself: kernel and modules from Debian's package, and the firmware,
# built (firmware/build.sh) from Debian's source of edk2.
#   enclave/image/fetch.sh DIR
# What is fetched, and what is built of it, is compared with inputs.sha256 and firmware/inputs.sha256. A package that the
# distribution has replaced by a newer one is not taken: then DIR must come from a release of Postern.
set -euo pipefail
(($# == 1)) || { echo "usage: $0 DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
if sha256sum --status --check "$here/inputs.sha256" 2> /dev/null; then exit; fi

kernel=6.12.117+deb12-cloud-amd64 kernel_version=6.12.117-1~deb12u1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{kernel,firmware}
. "$here/apt.sh"
apt_apart "$work" 'deb Debian-Security bookworm-security' 'deb Debian bookworm' 'deb-src Debian trixie'
(
    cd "$work"
    "${apt[@]}" download "linux-image-$kernel=$kernel_version"
    cd firmware
    # The names in firmware/inputs.sha256 have package and version in them.
    sed -n 's/.*  \([^_]*\)_\(.*\)_.*\.deb$/\1=\2/p' "$here/firmware/inputs.sha256" | xargs "${apt[@]}" download
    edk2=$(sed -n 's/.*  \([^_]*\)_\(.*\)\.debian\.tar\.xz$/\1=\2/p' "$here/firmware/inputs.sha256")
    # Only the archives, whose hashes are known: mirrors drop the small file that names them.
    "${apt[@]}" source --print-uris "$edk2" | tr -d "'" | awk '/\.tar\.xz / { print $1, $2 }' |
        while read -r uri name; do /usr/lib/apt/apt-helper "${apt_options[@]}" download-file "$uri" "$name"; done
)
dpkg -x "$work"/linux-image-*.deb "$work/kernel"
cp "$work/kernel/boot/vmlinuz-$kernel" vmlinuz
awk '$2 ~ /\.ko\.xz$/ { print $2 }' "$here/inputs.sha256" | while read -r module; do
    find "$work/kernel/lib/modules" -name "$module" -exec cp {} . \;
done
"$here/firmware/build.sh" "$work/firmware" firmware.fd
sha256sum --check --quiet "$here/inputs.sha256"
