#!/usr/bin/env bash
# Measure a play of many hosts against a cluster of the test host: proxmox_nixos_vm, and community.proxmox where it can.
# BENCH_SCALE_HOSTS=N (default 200), BENCH_PEER=0 leaves the peer out, BENCH_DEBUG=1 takes the debug builds that are there.
# The figures are also appended to BENCH_RESULTS=FILE (default target/bench.jsonl), as JSON lines.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/setup.sh build ansible
testing/bench/bench-peer.sh
if [ "${BENCH_DEBUG:-0}" = 1 ]; then
  export BENCH_BIN=target/debug BENCH_HOST=target/debug
else
  cargo build -q --profile dist -p proxmox_nixos_vm
  cargo build -q --release -p pve-testhost
  export BENCH_BIN=target/dist BENCH_HOST=target/release
fi
exec .venv/bin/python testing/bench/bench-scale.py
