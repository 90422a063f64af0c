#!/usr/bin/env bash
# The suites that take minutes: many seeds of hostile hosts, killed hosts and enclaves, lying machines, PostgreSQL, VMs, fuzzing, and nodes
# and tools that are not ours. POSTERN_SEEDS, POSTERN_KILL_RUNS and POSTERN_FUZZ_SECONDS say how much. Runs all of them, whichever fail;
# exits non-zero if any did.
set -euo pipefail
(($# == 0)) || { echo "usage: $0; what it does is at its head" >&2; exit 2; }
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never POSTERN_SEEDS=${POSTERN_SEEDS:-120} POSTERN_KILL_RUNS=${POSTERN_KILL_RUNS:-2}
seconds=${POSTERN_FUZZ_SECONDS:-8}

# Modules of the programs in tests/tests: those that compute, and those that drive other programs and mostly wait for them.
computing=(attacks/dealing durability/sealed_log durability/guard_model durability/agreement_model hostile_hosts)
driving=(programs/real_beacon_node programs/demos programs/kill programs/endurance programs/real_execution_node
    evidence/launch_measurement evidence/id_block vm evidence/real_snpguest)
# Computing takes release, with the features that the host has there, so that nothing is built twice (tests/Cargo.toml, "oracles").
# For the rest it is what `cargo test --workspace` has built already.
release=(--release --locked -p postern-attestation -p postern-enclave -p postern-tests --no-default-features)
debug=(--workspace --locked)

difference=$(diff <(printf '%s\n' "${computing[@]}" "${driving[@]}" | sort) \
    <(grep -rl '^ *#\[ignore' tests/tests --include='*.rs' | sed 's,^tests/tests/,,; s,\.rs$,,; s,/mod$,,' | sort)) || {
    printf 'the slow suites here (<) are not those in tests/tests (>):\n%s\n' "$difference" >&2
    exit 1
}

work=$(mktemp -d)
: > "$work/run"
: > "$work/failed"

step() { printf '\n=== %s (%ds)\n' "$1" "$SECONDS"; }

# A suite: `run NAME COMMAND...`.
run() {
    step "$1"
    echo "$1" >> "$work/run"
    "${@:2}" || echo "$1" >> "$work/failed"
}

# Something in the background, at a priority from 0 to 19, whose output goes to a file: `background NAME PRIORITY COMMAND...`.
# `finish NAME` waits for it.
declare -A started=()
background() {
    (
        renice -n "$2" -p "$BASHPID" > /dev/null
        "${@:3}"
    ) > "$work/$1.log" 2>&1 &
    started[$1]=$!
}
finish() {
    local status=0
    wait "${started[$1]}" || status=$?
    cat "$work/$1.log"
    return "$status"
}
trap 'kill "${started[@]}" 2> /dev/null || true; rm -rf "$work"' EXIT

# The ignored tests of a module, `PROGRAM/MODULE`, or of a program.
suite() {
    local which=("${debug[@]}") filter=() with=()
    [[ " ${computing[*]} " != *" $1 "* ]] || which=("${release[@]}")
    [[ $1 != */* ]] || filter=("${1#*/}::")
    case $1 in
        programs/kill) with=(tests/postgres.sh) ;;
        # It gets them again if this failed, and says why.
        vm) finish vm || true; with=(tests/vm.sh) ;;
        evidence/real_snpguest) finish snpguest ;;
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

sudo=; ((EUID == 0)) || sudo=sudo
postgres() {
    # The server's programs alone: a machine that has other ones keeps them as they are.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || command -v initdb > /dev/null ||
        { $sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends postgresql; }
}
peers() {
    for peer in anvil beacon; do
        npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "tests/peers/$peer"
    done
    python3 -m venv tests/independent/venv
    tests/independent/venv/bin/pip install --quiet --requirement tests/independent/requirements.txt
}
# A verifier, unoptimised, since it takes longer to build than to run.
snpguest() { CARGO_PROFILE_DEV_DEBUG=none cargo install --quiet snpguest@0.11.0 --locked --debug --root target/tools; }

compute() {
    cargo test "${release[@]}" --no-run --lib --test mutation --test attacks --test durability --test hostile_hosts
    run 'every bit of real evidence' cargo test "${release[@]}" --test mutation -- --ignored --nocapture
    run 'as much as an enclave must hold' cargo test "${release[@]}" --lib -- --ignored --nocapture
    for name in "${computing[@]}"; do run "$name" suite "$name"; done
    run 'fuzzing: build' build_fuzzers
    for name in parse_report appraise certificates decode; do run "fuzzing $name" fuzz "$name"; done
}

drive() {
    cargo test "${debug[@]}" --no-run
    run 'writes torn at many bytes' cargo test "${debug[@]}" --lib -- --ignored --nocapture torn
    run 'stores in PostgreSQL' tests/postgres.sh cargo test "${debug[@]}" --lib -- --ignored postgres --skip could_lose
    run 'stores in PostgreSQL that is set up badly' env POSTERN_POSTGRES_OPTIONS='-c full_page_writes=off' \
        tests/postgres.sh cargo test "${debug[@]}" --lib -- --ignored could_lose
    for name in "${driving[@]}"; do run "$name" suite "$name"; done
}

PATH=$PWD/target/tools/bin:$PATH
# What the last suites need takes minutes of all processors: those that the rest leaves over.
background vm 19 tests/vm.sh
background snpguest 19 snpguest
step 'nodes and tools that are not ours'
postgres
peers
step 'build'
# The programs that are driven are the release's.
cargo build --release --locked
# Suites that wait leave most of two processors to those that compute.
background computing 10 compute
drive
finish computing || echo 'computing' >> "$work/failed"

step "$(wc -l < "$work/run") slow suites, $(wc -l < "$work/failed") failed: $(paste -sd ' ' "$work/failed")"
[[ ! -s $work/failed ]]
