#!/usr/bin/env bash
# Install what the benchmarks compare with, community.proxmox 2.1.0 and what it needs, and what draws the plot, into
# .cache/bench-venv. BENCH_PEER=0: nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "${BENCH_PEER:-1}" = 1 ] || exit 0
venv=.cache/bench-venv
# The newest release of PyPI's `ansible` in November 2026, an alpha: the stable 14.5.0 has community.proxmox 2.0.0. It contains
# collections only. Its own requirements (Python 3.13, a release candidate of ansible-core) are left out, so that both sides run
# under the same ansible-core.
collections=ansible==15.0.0a3
packages=(ansible-core proxmoxer==2.3.0 requests==2.34.2 requests_toolbelt==1.0.0 matplotlib)
wanted="$collections ${packages[*]}"
[ "$(cat "$venv/complete" 2>/dev/null)" != "$wanted" ] || exit 0
echo "bench: installing the peer into $venv" >&2
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install -q "${packages[@]}"
"$venv/bin/pip" install -q --no-deps --ignore-requires-python "$collections"
echo "$wanted" >"$venv/complete"
