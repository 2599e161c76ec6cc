#!/usr/bin/env bash
# Measure the inventory plugin against that of community.proxmox: 1,000 running VMs on ten nodes of the test host.
# BENCH_RUNS=N (default 5), BENCH_PEER=0 leaves the peer out, BENCH_FACTS=1 adds one run of the peer with facts (minutes),
# BENCH_DEBUG=1 takes the programs that are in library/ and target/debug.
# The figures are also appended to BENCH_RESULTS=FILE (default target/bench.jsonl), as JSON lines.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/setup.sh build ansible
testing/bench/bench-peer.sh
if [ "${BENCH_DEBUG:-0}" = 1 ]; then
  export BENCH_HOST=target/debug
else
  cargo run -q -p xtask -- install
  cargo build -q --release -p pve-testhost
  export BENCH_HOST=target/release
fi
exec .venv/bin/python testing/bench/bench-inventory.py
