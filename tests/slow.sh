#!/usr/bin/env bash
# The suites that take minutes: many seeds of hostile hosts, killed hosts and enclaves, lying machines, PostgreSQL, VMs, fuzzing, and nodes
# and tools that are not ours. POSTERN_SEEDS, POSTERN_KILL_RUNS and POSTERN_FUZZ_SECONDS say how much. Runs all of them, whichever fail;
# exits non-zero if any did.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never POSTERN_SEEDS=${POSTERN_SEEDS:-120} POSTERN_KILL_RUNS=${POSTERN_KILL_RUNS:-2}
seconds=${POSTERN_FUZZ_SECONDS:-8}

# Modules of the programs in tests/tests: those that compute, of which the first two go side by side, since each takes one
# processor; and those that drive other programs and wait for them, one after the other.
computing=(attacks/dealing durability/sealed_log durability/guard_model durability/agreement_model hostile_hosts)
driving=(programs/real_beacon_node programs/demos programs/kill programs/endurance vm programs/real_execution_node
    evidence/launch_measurement evidence/id_block evidence/real_snpguest)
# Computing takes release, with the features that the host has there, so that nothing is built twice (tests/Cargo.toml, "oracles").
# For the rest it is what `cargo test --workspace` has built already.
release=(--release --locked -p postern-attestation -p postern-enclave -p postern-tests --no-default-features)
debug=(--workspace --locked)

difference=$(diff <(printf '%s\n' "${computing[@]}" "${driving[@]}" | sort) \
    <(grep -rl '^ *#\[ignore' tests/tests --include='*.rs' | sed 's,^tests/tests/,,; s,\.rs$,,; s,/mod$,,' | sort)) || {
    printf 'the slow suites here (<) are not those in tests/tests (>):\n%s\n' "$difference" >&2
    exit 1
}

step() { printf '\n=== %s (%ds)\n' "$1" "$SECONDS"; }
log=$(mktemp) vm_log=$(mktemp)
count=0 failed=()

# A suite: `run NAME COMMAND...`.
run() {
    step "$1"
    count=$((count + 1))
    "${@:2}" || failed+=("$1")
}

# Two suites side by side: `beside NAME COMMAND... and NAME COMMAND...`. What the first one says comes when both are over.
beside() {
    local first=()
    while [[ $1 != and ]]; do
        first+=("$1")
        shift
    done
    "${first[@]:1}" > "$log" 2>&1 &
    local pid=$!
    run "${@:2}"
    run "${first[0]}" ended "$pid"
}
ended() {
    local status=0
    wait "$1" || status=$?
    cat "$log"
    return "$status"
}

# The ignored tests of a module, `PROGRAM/MODULE`, or of a program.
suite() {
    local which=("${debug[@]}") filter=() with=()
    [[ " ${computing[*]} " != *" $1 "* ]] || which=("${release[@]}")
    [[ $1 != */* ]] || filter=("${1#*/}::")
    case $1 in
        programs/kill) with=(tests/postgres.sh) ;;
        vm)
            # It gets them again if this failed, and says why.
            wait "$vm" || cat "$vm_log"
            with=(tests/vm.sh)
            ;;
    esac
    "${with[@]}" cargo test "${which[@]}" --test "${1%/*}" -- --ignored --nocapture --skip by_hand "${filter[@]}"
}

# As `cargo fuzz` 0.13 builds it with `--sanitizer none`: that tool takes longer to build than all fuzzers. The stable compiler
# will do, since there is nothing unsafe to find. With a target named, build scripts are built without these flags.
fuzz_target=x86_64-unknown-linux-gnu
build_fuzzers() {
    local flags=(--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module) coverage=-Cllvm-args=-sanitizer-coverage
    flags+=("$coverage-level=4" "$coverage-inline-8bit-counters" "$coverage-pc-table" "$coverage-trace-compares"
        "$coverage-stack-depth" -Cllvm-args=-simplifycfg-branch-fold-threshold=0)
    RUSTFLAGS=${flags[*]} cargo build --release --locked --bins --manifest-path attestation/fuzz/Cargo.toml \
        --target-dir target/fuzz --target "$fuzz_target"
}
fuzz() {
    local corpus=target/fuzz/corpus/$1
    mkdir -p "$corpus"
    "target/fuzz/$fuzz_target/release/$1" "$corpus" "attestation/fuzz/seeds/$1" -artifact_prefix="$corpus-failed-" \
        -max_total_time="$seconds" -print_final_stats=1 -verbosity=0
}

# What the VM's tests need takes minutes of all processors: those that the rest leaves over.
nice -n 19 tests/vm.sh > "$vm_log" 2>&1 &
vm=$!
trap 'kill "$vm" 2> /dev/null || true; rm "$log" "$vm_log"' EXIT

step 'nodes and tools that are not ours'
{
    for peer in anvil beacon; do
        npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "tests/peers/$peer"
    done
    python3 -m venv tests/independent/venv
    tests/independent/venv/bin/pip install --quiet --requirement tests/independent/requirements.txt
} &
others=$!
# A verifier, unoptimised, since it takes longer to build than to run.
CARGO_PROFILE_DEV_DEBUG=none cargo install --quiet snpguest@0.11.0 --locked --debug --root target/tools
wait "$others"
PATH=$PWD/target/tools/bin:$PATH

step 'build'
cargo build --release --locked
cargo test "${release[@]}" --no-run --lib --test mutation --test attacks --test durability --test hostile_hosts
cargo test "${debug[@]}" --no-run

beside 'every bit of real evidence' cargo test "${release[@]}" --test mutation -- --ignored --nocapture and \
    'as much as an enclave must hold' cargo test "${release[@]}" --lib -- --ignored --nocapture
run 'writes torn at many bytes' cargo test "${debug[@]}" --lib -- --ignored --nocapture torn

sudo=; ((EUID == 0)) || sudo=sudo
# The server's programs alone: a machine that has other ones keeps them as they are.
if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null && ! command -v initdb > /dev/null; then
    step 'PostgreSQL'
    $sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends postgresql
fi
run 'stores in PostgreSQL' tests/postgres.sh cargo test "${debug[@]}" --lib -- --ignored postgres --skip could_lose
run 'stores in PostgreSQL that is set up badly' env POSTERN_POSTGRES_OPTIONS='-c full_page_writes=off' \
    tests/postgres.sh cargo test "${debug[@]}" --lib -- --ignored could_lose

run 'fuzzing: build' build_fuzzers
beside 'fuzzing parse_report' fuzz parse_report and 'fuzzing appraise' fuzz appraise
beside 'fuzzing certificates' fuzz certificates and 'fuzzing decode' fuzz decode

beside "${computing[0]}" suite "${computing[0]}" and "${computing[1]}" suite "${computing[1]}"
for name in "${computing[@]:2}" "${driving[@]}"; do run "$name" suite "$name"; done

step "$count slow suites, ${#failed[@]} failed${failed:+: ${failed[*]}}"
((${#failed[@]} == 0))
