#!/usr/bin/env bash
# scripts/demo.sh up | down: a Proxmox VE test host on this computer, and a machine provisioned on it
# by the very play that users run. Everything is in .demo/ (NIXOS_PROXMOX_DEMO_DIR moves it).
set -euo pipefail
demo=$(realpath -m -- "${NIXOS_PROXMOX_DEMO_DIR:-$(dirname "$0")/../.demo}")
cd "$(dirname "$0")/.."

image=${DEMO_IMAGE:-debian} # debian: the real cloud-init; tiny: faster
export NIXOS_PROXMOX_DEMO_DIR=$demo
export ANSIBLE_CONFIG=$PWD/ansible.cfg
# A Rust toolchain that setup.sh installs with rustup is in ~/.cargo/bin.
export PATH=$PWD/.venv/bin:$HOME/.cargo/bin:$PATH

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

timings=()
step() { # step TITLE COMMAND...
  local title=$1 start=$SECONDS
  shift
  say "$title"
  "$@"
  timings+=("$(printf '%4d s  %s' $((SECONDS - start)) "$title")")
}

build() {
  cargo build --quiet --release -p pve-testhost
  cargo xtask install
}

installer() {
  if [ "${REAL_NIX:-0}" = 1 ]; then
    image=$(readlink -f "${NIXOS_INSTALLER_ISO:?with REAL_NIX=1, say where the NixOS installer image is: NIXOS_INSTALLER_ISO=...}")
  else
    testing/images/build.sh "$image"
  fi
}

# The guest's SSH is forwarded to this port by the test host, once there is a guest.
port_is_free() {
  [ ! -e "$demo/pve/endpoint.json" ] || return 0
  ! (exec 3<>/dev/tcp/127.77.0.11/2222) 2>/dev/null || die "port 2222 of 127.77.0.11 is in use by another program, and the demo's machine needs it; stop that program first"
}

play() { ansible-playbook provision.yml -i testing/demo/inventory "$@"; }

# An argument for a shell: in quotes only where it needs them.
quoted() {
  case $1 in
    *[!A-Za-z0-9_./=@:,-]*) printf "'%s'" "${1//\'/\'\\\'\'}" ;;
    *) printf '%s' "$1" ;;
  esac
}

# ssh splits the value of this option at blanks, unless it is in double quotes.
known_hosts_option() {
  case $1 in
    *' '*) quoted "UserKnownHostsFile=\"$1\"" ;;
    *) quoted "UserKnownHostsFile=$1" ;;
  esac
}

summary() {
  local state=$demo/state/demo1 installation
  # The record in the VM's notes names the directory of its installation.
  installation=$state/$(sed -nE 's/^#.*installation=([0-9a-f]{32}).*/\1/p' "$(config)" | tail -n 1)
  say "Done"
  printf '%s\n' "${timings[@]}"
  cat <<TEXT

  machine      demo1, VMID $(basename "$(config)" .conf) on node pve
  address      127.77.0.11, port 2222 (the guest's own: 10.77.0.11, port 22)
  host key     $(ssh-keygen -l -f "$installation/host_key_ed25519.pub" | awk '{ print $2 }')
  log in       ssh -i $(quoted "$demo/ssh/id_ed25519") -o IdentitiesOnly=yes -o $(known_hosts_option "$state/known_hosts") -o StrictHostKeyChecking=yes -p 2222 root@127.77.0.11
  look inside  $demo/pve: the VM's configuration, its serial log, tasks and requests; $installation/install.log
  run again    .venv/bin/ansible-playbook provision.yml -i testing/demo/inventory    (changes nothing)
  clean up     make demo-down
TEXT
}

config() { grep -lx 'name: demo1' "$demo"/pve/qemu-server/*.conf; }

up() {
  if [ "${REAL_NIX:-0}" != 1 ]; then
    echo "The machine will be a Debian system installed by a stand-in for nixos-anywhere (testing/stand-in);"
    echo "with Nix on this computer, make demo REAL_NIX=1 installs NixOS with the real one."
  fi
  port_is_free
  step "Set this computer up" scripts/setup.sh build guest ansible
  step "Build the modules and the test host" build
  step "Make the installer's image" installer
  step "Start the Proxmox VE test host" env LAB_PORT="${DEMO_PORT:-8006}" LAB_ACCEL="${DEMO_ACCEL:-auto}" scripts/lab.sh up "$demo" "$image"
  step "Provision: ansible-playbook provision.yml -i testing/demo/inventory" play "$@"
  summary
}

down() {
  scripts/lab.sh down "$demo"
  echo "The test host is stopped and $demo is gone."
}

case ${1:-} in
  up) shift; up "$@" ;;
  down) down ;;
  *) die "usage: scripts/demo.sh up | down" ;;
esac
