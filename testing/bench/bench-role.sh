#!/usr/bin/env bash
# Measure the role: a play of many finished machines against one with a single module task a host, of this project and of
# community.proxmox, and the six steps with guests that boot in 0.2 s. BENCH_HOSTS="50 200" (default) sets the numbers of
# finished machines, BENCH_MACHINES="1 5" (default) those of machines to install ("" for none); BENCH_PEER=0 leaves the peer
# out, BENCH_DEBUG=1 takes the modules that are in library/.
# The figures are also appended to BENCH_RESULTS=FILE (default target/bench.jsonl), as JSON lines.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/setup.sh build ansible test
testing/bench/bench-peer.sh
if [ "${BENCH_DEBUG:-0}" = 1 ]; then
  export PVE_TESTHOST=${PVE_TESTHOST:-$PWD/target/debug/pve-testhost}
else
  cargo run -q -p xtask -- install
  cargo build -q --release -p pve-testhost
fi
exec .venv/bin/python testing/bench/bench-role.py
