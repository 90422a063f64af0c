#!/usr/bin/env bash
# The suites that take minutes: many seeds of hostile hosts, killed hosts, and nodes and tools that are not ours.
# POSTERN_SEEDS and POSTERN_KILL_RUNS say how many. Runs all of them, whichever fail; exits non-zero if any did.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never POSTERN_SEEDS=${POSTERN_SEEDS:-600} POSTERN_KILL_RUNS=${POSTERN_KILL_RUNS:-4}

suites=(hostile_hosts kill_hosts demo_liars real_execution_node real_beacon_node launch_measurement id_block real_snpguest)
forgotten=$(grep -l '^ *#\[ignore' tests/tests/*.rs | xargs -n 1 basename -s .rs | grep -vxF -f <(printf '%s\n' "${suites[@]}") || true)
[[ -z $forgotten ]] || { echo "not in the list of slow suites: $forgotten" >&2; exit 1; }

step() { printf '\n=== %s (%ds)\n' "$1" "$SECONDS"; }

step 'nodes and tools that are not ours'
for peer in anvil beacon; do
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "tests/peers/$peer"
done
python3 -m venv tests/independent/venv
tests/independent/venv/bin/pip install --quiet --requirement tests/independent/requirements.txt

step 'a verifier that is not ours'
cargo install --quiet snpguest --version 0.11.0 --locked --root target/tools
PATH=$PWD/target/tools/bin:$PATH

step 'build'
cargo build --release --locked
cargo test --release --locked -p postern-tests --no-run

failed=()
for suite in "${suites[@]}"; do
    step "$suite"
    cargo test --release --locked -p postern-tests --test "$suite" -- --ignored --nocapture || failed+=("$suite")
done

step "${#suites[@]} slow suites, ${#failed[@]} failed${failed:+: ${failed[*]}}"
((${#failed[@]} == 0))
