#!/usr/bin/env bash
# The suites that take minutes: many seeds of hostile hosts, killed hosts and enclaves, lying machines, PostgreSQL, VMs, fuzzing, and nodes
# and tools that are not ours. POSTERN_SEEDS, POSTERN_KILL_RUNS and POSTERN_FUZZ_SECONDS say how much. Runs all of them, whichever fail;
# exits non-zero if any did.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never POSTERN_SEEDS=${POSTERN_SEEDS:-200} POSTERN_KILL_RUNS=${POSTERN_KILL_RUNS:-3}
seconds=${POSTERN_FUZZ_SECONDS:-12}

suites=(attacks guard_model hostile_hosts kill sealed_log demo_liars vm real_execution_node real_beacon_node launch_measurement id_block real_snpguest)
forgotten=$(grep -rl '^ *#\[ignore' tests/tests --include='*.rs' | sed 's,^tests/tests/,,; s,[/.].*,,' | sort -u | grep -vxF -f <(printf '%s\n' "${suites[@]}") || true)
[[ -z $forgotten ]] || { echo "not in the list of slow suites: $forgotten" >&2; exit 1; }

step() { printf '\n=== %s (%ds)\n' "$1" "$SECONDS"; }

step 'nodes and tools that are not ours'
for peer in anvil beacon; do
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "tests/peers/$peer"
done
python3 -m venv tests/independent/venv
tests/independent/venv/bin/pip install --quiet --requirement tests/independent/requirements.txt

step 'a verifier that is not ours, and a fuzzer'
cargo install --quiet snpguest --version 0.11.0 --locked --root target/tools
cargo install --quiet cargo-fuzz --version 0.13.2 --locked --root target/tools
PATH=$PWD/target/tools/bin:$PATH

step 'build'
cargo build --release --locked
# With the features that this host has (tests/Cargo.toml, "oracles"): so it is built only once.
release=(--release --locked -p postern-attestation -p postern-enclave -p postern-host -p postern-tests
    --no-default-features --features postern-host/default)

failed=()
step 'every bit of real evidence'
cargo test "${release[@]}" --test mutation -- --ignored --nocapture || failed+=(mutation)

step 'as much as an enclave must hold, and writes torn at many bytes'
cargo test "${release[@]}" --lib -- --ignored --nocapture --skip postgres || failed+=('scale or torn writes')

step 'stores in PostgreSQL'
# The server's programs alone: a machine that has other ones keeps them as they are.
if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null && ! command -v initdb > /dev/null; then
    sudo=; ((EUID == 0)) || sudo=sudo
    $sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends postgresql
fi
tests/postgres.sh cargo test "${release[@]}" --lib -- --ignored postgres --skip could_lose || failed+=(postgres)
POSTERN_POSTGRES_OPTIONS='-c full_page_writes=off' \
    tests/postgres.sh cargo test "${release[@]}" --lib -- --ignored could_lose || failed+=('postgres, set up badly')

step 'fuzzing'
# `cargo fuzz` itself would bring a stale lock file up to date without a word.
cargo metadata --manifest-path attestation/fuzz/Cargo.toml --locked --format-version 1 > /dev/null || failed+=('fuzzing: Cargo.lock')
for target in parse_report appraise certificates decode; do
    corpus=target/fuzz/corpus/$target
    mkdir -p "$corpus"
    # The stable compiler will do: no sanitizer, since there is nothing unsafe to find.
    cargo fuzz run --fuzz-dir attestation/fuzz --sanitizer none --target-dir target/fuzz "$target" \
        "$corpus" "attestation/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 || failed+=("fuzzing $target")
done

for suite in "${suites[@]}"; do
    step "$suite"
    with= which=("${release[@]}")
    case $suite in
        kill) with=tests/postgres.sh ;;
        vm) with=tests/vm.sh ;;
        # Compares with what the others are built without.
        launch_measurement) which=(--workspace --locked) ;;
    esac
    $with cargo test "${which[@]}" --test "$suite" -- --ignored --nocapture --skip by_hand || failed+=("$suite")
done

step "$((${#suites[@]} + 8)) slow suites, ${#failed[@]} failed${failed:+: ${failed[*]}}"
((${#failed[@]} == 0))
