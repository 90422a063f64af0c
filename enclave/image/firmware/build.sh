#!/usr/bin/env bash
# Builds the VM's firmware: Postern/ and patches/ on Debian's source package of edk2.
#   enclave/image/firmware/build.sh FETCHED FILE      # FETCHED has what inputs.sha256 names
# Nothing is installed and nothing is fetched. The compiler is the machine's; the same bytes come out wherever that is
# Debian 12's.
set -euo pipefail
(($# == 2)) || { echo "usage: $0 FETCHED FILE" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
fetched=$(cd "$1" && pwd)
file=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
for program in gcc ld make patch /usr/bin/python3; do
    command -v "$program" > /dev/null || { echo "$0: wants $program" >&2; exit 1; }
done
(cd "$fetched" && sha256sum --check --quiet "$here/inputs.sha256")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{tools,source}
for package in "$fetched"/{libuuid1,nasm,uuid-dev}_*.deb; do dpkg -x "$package" "$work/tools"; done

cd "$work/source"
tar -xf "$fetched"/edk2_*.orig.tar.xz --strip-components=1
tar -xf "$fetched"/edk2_*.debian.tar.xz
apply() { patch --silent --batch --fuzz=0 --strip=1 --binary < "$1"; }
grep -v '^#' debian/patches/series | while read -r name; do apply "debian/patches/$name"; done
for name in "$here"/patches/*.patch; do apply "$name"; done
cp -r "$here/Postern" .

# Tests of what stands between the host's answers and memory, none of which takes SEV: its sources as they are now, run as
# programs.
includes=(-I{.,MdePkg,MdePkg/Include{,/X64},MdeModulePkg/Include,OvmfPkg/Include,UefiCpuPkg/Include}
    -IOvmfPkg/Library/{AmdSvsmLib,BaseMemEncryptSevLib/X64,CcExitLib})
compile() {
    gcc -w -O2 -fshort-wchar -fno-builtin -fno-strict-aliasing -ffunction-sections -Wl,--gc-sections -z noexecstack \
        '-DEFIAPI=__attribute__((ms_abi))' "${includes[@]}" -o "$work/test" "$@"
}
run() { "$work/test" "$@" || { echo "$0: $test" >&2; exit 1; }; }
for phase in PeiDxe Sec; do
    test="the handler of #VC, $phase"
    compile "-DHANDLER=\"${phase}CcExitVcHandler.c\"" "$here/vc_test.c"
    run
done
test="GHCB and local APIC"
compile "$here/registers_test.c"
run

# Nothing of the machine's environment has a say in it.
log=$work/log
env --ignore-environment PATH="$work/tools/usr/bin:/usr/bin:/bin" LC_ALL=C.UTF-8 TZ=UTC HOME="$work" \
    PYTHON_COMMAND=/usr/bin/python3 PYTHONHASHSEED=0 C_INCLUDE_PATH="$work/tools/usr/include" \
    LIBRARY_PATH="$work/tools/usr/lib/x86_64-linux-gnu" LD_LIBRARY_PATH="$work/tools/lib/x86_64-linux-gnu" \
    bash -e > "$log" 2>&1 << 'BUILD' || { grep -m 20 -E 'error:|: error ' "$log" >&2; echo "$0: the build failed" >&2; exit 1; }
. ./edksetup.sh
make -C BaseTools/Source/C -j "$(nproc)" ARCH=X64 APPLICATIONS='GenFfs GenFv GenFw GenSec LzmaCompress' VFRAUTOGEN=
build -n "$(nproc)" -a X64 -t GCC5 -b RELEASE -p Postern/Postern.dsc
BUILD

# And of its assembly, as it was built.
built=Build/Postern/RELEASE_GCC5
test="memory that is validated"
compile "$here/validate_test.c" "$built/X64/MdePkg/Library/BaseLib/BaseLib/OUTPUT/X64/Pvalidate.obj"
run
test="the reset vector's handler of #VC"
compile "$here/reset_test.c"
run "$built/FV/OVMF.fd"

cp "$built/FV/OVMF.fd" "$file.new"
mv "$file.new" "$file"
