#!/usr/bin/env bash
# Builds the image's only program, static and the same whoever builds it, wherever; prints where it is.
#   enclave/image/init.sh [PACKAGE BINARY]        # the enclave, unless told otherwise
# The same: with the compiler that rust-version in Cargo.toml names, and the same C library and C compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
package=${1-postern-enclave} binary=${2-postern-enclave} target=x86_64-unknown-linux-gnu
cargo_home=${CARGO_HOME:-$HOME/.cargo}
folder=${CARGO_TARGET_DIR:-$PWD/target}/image
version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
[[ $(rustc --version) == "rustc $version."* ]] || { echo "$0: wants Rust $version, found $(rustc --version)" >&2; exit 1; }
# Nothing of where things lie gets into the binary, and nothing of what this machine adds to its builds: flags, wrappers,
# other compilers, other profiles.
flags=(-Ctarget-feature=+crt-static "--remap-path-prefix=$cargo_home=/cargo" "--remap-path-prefix=$PWD=/postern"
    "--remap-path-prefix=$folder=/target")
# Apart from other builds, whose flags are others.
env --ignore-environment HOME="$HOME" PATH="$PATH" CARGO_HOME="$cargo_home" ${RUSTUP_HOME:+RUSTUP_HOME="$RUSTUP_HOME"} \
    CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f' && echo "${flags[*]}")" \
    cargo build --quiet --locked --profile enclave --target "$target" --target-dir "$folder" -p "$package" --bin "$binary" >&2
echo "$folder/$target/enclave/$binary"
