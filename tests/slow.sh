#!/usr/bin/env bash
# The suites that take minutes: many seeds of hostile hosts, killed hosts, and nodes that are not ours.
set -euo pipefail
cd "$(dirname "$0")/.."

npm ci --silent --ignore-scripts --prefix tests/peers/anvil
npm ci --silent --ignore-scripts --prefix tests/peers/beacon
cargo build --release --locked

run() { cargo test --release --locked -p postern-tests --test "$1" -- --ignored --nocapture; }

POSTERN_SEEDS=${POSTERN_SEEDS:-800} run hostile_hosts
POSTERN_KILL_RUNS=${POSTERN_KILL_RUNS:-4} run kill_hosts
run real_execution_node
run real_beacon_node
