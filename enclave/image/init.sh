#!/usr/bin/env bash
# Builds the image's only program, static and the same whoever builds it, wherever; prints where it is.
#   enclave/image/init.sh [PACKAGE BINARY]        # the enclave, unless told otherwise
# The same: with this very compiler, and the same C library and C compiler.
set -euo pipefail
compiler='rustc 1.95.0 (59807616e 2026-04-14)'
root=$(cd "$(dirname "$0")/../.." && pwd)
package=${1-postern-enclave} binary=${2-postern-enclave} target=x86_64-unknown-linux-gnu
cargo_home=${CARGO_HOME:-$HOME/.cargo}
folder=$(cd "$root" && mkdir -p "${CARGO_TARGET_DIR:-target}/image" && cd "${CARGO_TARGET_DIR:-target}/image" && pwd)

# Cargo's configuration files may name wrappers, linkers, flags, profiles, patches. None is read: not those of the sources' folder
# and the ones above it, since this is no folder's; nor that of CARGO_HOME, since here it is one that has only what was
# downloaded, and the locks that go with it.
cd /
for file in /.cargo/config{,.toml}; do
    [[ ! -e $file ]] || { echo "$0: $file has a say in what is built" >&2; exit 1; }
done
home=$folder/cargo
mkdir -p "$home" "$cargo_home/registry"
touch "$cargo_home"/.package-cache{,-mutate}
for name in registry .package-cache{,-mutate}; do ln -sfn "$cargo_home/$name" "$home/$name"; done

# Nothing of where things lie gets into the binary, and nothing of what this machine adds to its builds: flags, wrappers,
# other compilers, other profiles.
flags=(-Ctarget-feature=+crt-static "--remap-path-prefix=$home=/cargo" "--remap-path-prefix=$root=/postern"
    "--remap-path-prefix=$folder=/target")
apart=(env --ignore-environment HOME="$HOME" PATH="$PATH" CARGO_HOME="$home" ${RUSTUP_HOME:+RUSTUP_HOME="$RUSTUP_HOME"}
    ${RUSTUP_TOOLCHAIN:+RUSTUP_TOOLCHAIN="$RUSTUP_TOOLCHAIN"} CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f' && echo "${flags[*]}")")
found=$("${apart[@]}" rustc --version)
[[ $found == "$compiler" ]] || { echo "$0: wants $compiler, found $found" >&2; exit 1; }
# In a folder apart from other builds, whose flags are others.
"${apart[@]}" cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --profile enclave --target "$target" \
    --target-dir "$folder" -p "$package" --bin "$binary" >&2
echo "$folder/$target/enclave/$binary"
