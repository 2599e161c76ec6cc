#!/usr/bin/env bash
# Measure proxmox_iso against curl and community.proxmox, and proxmox_nixos_vm against proxmox_kvm, as whole processes.
# BENCH_SIZE=MiB (default 1024), BENCH_FULL=1 adds 8 GiB, BENCH_RUNS=N pairs (default 5), BENCH_PEER=0 leaves the peer out.
# The figures are also appended to BENCH_RESULTS=FILE (default target/bench.jsonl), as JSON lines.
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in /usr/bin/time curl python3 cargo; do
  command -v "$tool" >/dev/null || { echo "bench: $tool is needed (apt install ${tool##*/})" >&2; exit 1; }
done
testing/bench/bench-peer.sh
cargo build -q --profile dist -p proxmox_iso -p proxmox_nixos_vm
cargo build -q --release -p pve-client --example sink
cargo build -q --release -p pve-testhost
exec python3 testing/bench/bench.py "$@"
