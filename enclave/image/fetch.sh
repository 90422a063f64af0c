#!/usr/bin/env bash
# Gets what the image is made of, besides the enclave itself, from Debian's packages: kernel, modules, firmware.
#   enclave/image/fetch.sh DIR
# What was fetched is compared with inputs.sha256. A package that the distribution has replaced by a newer one is not
# taken: then DIR must come from a release of Postern.
set -euo pipefail
(($# == 1)) || { echo "usage: $0 DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
if sha256sum --status --check "$here/inputs.sha256" 2> /dev/null; then exit; fi

kernel=6.12.117+deb12-cloud-amd64 kernel_version=6.12.117-1~deb12u1 firmware_version=2026.08+ds-2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{none,lists/partial,cache/archives/partial,kernel,firmware}

# The machine's own mirrors, with lists beside its own: nothing that is installed changes.
mirror() { apt-get indextargets --format '$(LABEL) $(REPO_URI)' | awk -v label="$1" '$1 == label { print $2; exit }'; }
main=$(mirror Debian) security=$(mirror Debian-Security)
[[ -n $main ]] || { echo "$0: apt knows no mirror of Debian here" >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$main" sid "$keyring" "${security:-$main}" bookworm-security > "$work/sources"
apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/sources" -o "Dir::Etc::sourceparts=$work/none" -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)")
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download "linux-image-$kernel=$kernel_version" "ovmf-amdsev=$firmware_version")
dpkg -x "$work"/linux-image-*.deb "$work/kernel"
dpkg -x "$work"/ovmf-amdsev_*.deb "$work/firmware"

cp "$work/kernel/boot/vmlinuz-$kernel" vmlinuz
cp "$work/firmware/usr/share/ovmf/OVMF.amdsev.fd" firmware.fd
awk '$2 ~ /\.ko\.xz$/ { print $2 }' "$here/inputs.sha256" | while read -r module; do
    find "$work/kernel/lib/modules" -name "$module" -exec cp {} . \;
done
sha256sum --check --quiet "$here/inputs.sha256"
