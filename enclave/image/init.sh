#!/usr/bin/env bash
# Builds the image's only program, static and the same whoever builds it, wherever; prints where it is.
#   enclave/image/init.sh [PACKAGE BINARY]        # the enclave, unless told otherwise
# The same: with the compiler that rust-version in Cargo.toml names, and the same C library and C compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
package=${1-postern-enclave} binary=${2-postern-enclave} target=x86_64-unknown-linux-gnu
folder=${CARGO_TARGET_DIR:-$PWD/target}
# Nothing of where things lie gets into the binary; and nothing of what this machine adds to its builds.
unset RUSTFLAGS CFLAGS CARGO_BUILD_RUSTFLAGS
export CARGO_ENCODED_RUSTFLAGS
printf -v CARGO_ENCODED_RUSTFLAGS '%s\x1f' -Ctarget-feature=+crt-static \
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" "--remap-path-prefix=$PWD=/postern"
CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
# Apart from other builds, whose flags are others.
cargo build --quiet --locked --profile enclave --target "$target" --target-dir "$folder/image" -p "$package" --bin "$binary" >&2
echo "$folder/image/$target/enclave/$binary"
