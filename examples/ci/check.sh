#!/usr/bin/env bash
# check.sh PROJECT INVENTORY [ARGUMENT ...]: try an inventory on a test host of Proxmox VE with simulated guests.
#
# PROJECT is a checkout of nixos-proxmox with `make build` and target/release/pve-testhost. The API, node and storages of the inventory are
# replaced by the test host's; each ARGUMENT is added to ansible-playbook's, for example `-e @ci.yml` with what else
# differs there, such as disks that name a storage of their own.
# Every variable is checked, the flake is evaluated for each machine (by the Nix of this computer), and the VMs are made, but nothing boots.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 PROJECT INVENTORY [ARGUMENT ...]" >&2; exit 2; }
project=$1 inventory=$2
shift 2
testhost=${PVE_TESTHOST:-$project/target/release/pve-testhost}
lab=$(mktemp -d)/lab
trap '"$testhost" lab down "$lab" || true; rmdir "$(dirname "$lab")"' EXIT
"$testhost" lab up "$lab" none

# Variables of the command line win over those of the inventory. Those of the connection are secrets.
umask 077
python3 - "$lab" >"$lab/ci.json" <<'PYTHON'
import json
import sys

lab = sys.argv[1]
host = json.load(open(f"{lab}/pve/endpoint.json"))
connection = ("api_host", "api_port", "api_user", "api_token_id", "api_token_secret", "tls_fingerprint")
variables = {f"nixos_vm_{name}": host[name] for name in connection}
variables |= {"nixos_vm_api_password": "", "nixos_vm_node": host["node"], "nixos_vm_nodes": [], "nixos_vm_spread": ""}
variables |= {"nixos_vm_disks_storage": "local", "nixos_vm_iso_storage": "local", "nixos_vm_installer_iso": f"{lab}/installer.iso"}
variables |= {"nixos_vm_state_root": f"{lab}/state"}
json.dump(variables, sys.stdout)
PYTHON

play() { ANSIBLE_CONFIG=$project/ansible.cfg ansible-playbook -i "$inventory" -e "@$lab/ci.json" "$@"; }
play "$project/playbooks/plan.yml" "$@"
play "$project/provision.yml" "$@" --tags image,upload,provision
