#!/usr/bin/env bash
# Install what the benchmarks compare with, community.proxmox and what it needs, into .cache/bench-venv; BENCH_PEER=0: nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.cache/bench-venv
[ "${BENCH_PEER:-1}" = 1 ] && [ ! -e "$venv/complete" ] || exit 0
echo "bench: installing the peer into $venv" >&2
python3 -m venv "$venv"
"$venv/bin/pip" install -q ansible proxmoxer requests requests_toolbelt
touch "$venv/complete"
