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
mkdir -p "$work"/{none,lists/partial,cache/archives/partial,kernel,firmware}

# The machine's own mirrors, with lists beside its own: nothing that is installed changes.
mirror() { apt-get indextargets --format '$(LABEL) $(REPO_URI)' | awk -v label="$1" '$1 == label { print $2; exit }'; }
main=$(mirror Debian) security=$(mirror Debian-Security)
[[ -n $main ]] || { echo "$0: apt knows no mirror of Debian here" >&2; exit 1; }
signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
cat > "$work/sources" << SOURCES
deb $signed ${security:-$main} bookworm-security main
deb $signed $main bookworm main
deb-src $signed $main trixie main
SOURCES
options=(-q -o "Dir::Etc::sourcelist=$work/sources" -o "Dir::Etc::sourceparts=$work/none" -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)")
apt-get "${options[@]}" update
(
    cd "$work"
    apt-get "${options[@]}" download "linux-image-$kernel=$kernel_version"
    cd firmware
    apt-get "${options[@]}" download nasm=2.16.01-1 uuid-dev=2.38.1-5+deb12u3 libuuid1=2.38.1-5+deb12u3
    # Only the archives, whose hashes are known: mirrors drop the small file that names them.
    apt-get "${options[@]}" source --print-uris edk2=2025.02-8+deb13u1 | tr -d "'" | awk '/\.tar\.xz / { print $1, $2 }' |
        while read -r uri name; do /usr/lib/apt/apt-helper "${options[@]}" download-file "$uri" "$name"; done
)
dpkg -x "$work"/linux-image-*.deb "$work/kernel"
cp "$work/kernel/boot/vmlinuz-$kernel" vmlinuz
awk '$2 ~ /\.ko\.xz$/ { print $2 }' "$here/inputs.sha256" | while read -r module; do
    find "$work/kernel/lib/modules" -name "$module" -exec cp {} . \;
done
"$here/firmware/build.sh" "$work/firmware" firmware.fd
sha256sum --check --quiet "$here/inputs.sha256"
