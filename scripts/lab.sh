#!/usr/bin/env bash
# scripts/lab.sh up DIR IMAGE | down DIR: a Proxmox VE test host with its data in DIR, the link
# DIR/installer.iso to the image (tiny | debian | none, which also simulates the guests), and the
# keys and files of a user. The demo and the tests provision on it. DIR/faults.json, which need not
# exist, makes it misbehave.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'lab: %s\n' "$*" >&2; exit 1; }
testhost=${PVE_TESTHOST:-$PWD/target/release/pve-testhost}

endpoint() { sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$lab/pve/endpoint.json" 2>/dev/null; }
# Its process may have ended with the computer, and the number be another one's by now.
running() { [ -n "$(endpoint pid)" ] && grep -qa pve-testhost "/proc/$(endpoint pid)/cmdline" 2>/dev/null; }

# Whether something listens there already: 127.0.0.1 PORT.
busy() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Whether the directory was made by this script, and so is its to remove.
ours() { [ -e "$lab/pve/server.log" ]; }

# What the installed machine gets from its user: a key to log in with, and a file to find there.
user_files() {
  mkdir -p "$lab/ssh" "$lab/extra-files/root/.ssh" "$lab/extra-files/etc"
  chmod 700 "$lab/extra-files/root" "$lab/extra-files/root/.ssh"
  [ -s "$lab/ssh/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C "nixos-proxmox demo" -f "$lab/ssh/id_ed25519"
  cp "$lab/ssh/id_ed25519.pub" "$lab/extra-files/root/.ssh/authorized_keys"
  echo "Put here by nixos-anywhere's --extra-files." >"$lab/extra-files/etc/nixos-proxmox-demo"
}

# What is an ISO 9660 image by its volume descriptors, and has nothing in it.
smallest_iso() {
  head -c 32768 /dev/zero
  printf '\001CD001\001'
  head -c 2041 /dev/zero
  printf '\377CD001\001'
  head -c 30713 /dev/zero
}

up() {
  local image=$1 accel=${LAB_ACCEL:-auto} port=${LAB_PORT:-0} iso server tries=0
  if [ -d "$lab" ] && ! ours && [ -n "$(ls -A "$lab")" ]; then
    die "$lab holds other files, which \`down\` would remove; name a directory that does not exist yet"
  fi
  mkdir -p "$lab/pve"
  : >>"$lab/pve/server.log"
  chmod 700 "$lab"
  user_files
  case $image in
    none) accel=none; smallest_iso >"$lab/installer.iso" ;;
    tiny | debian) iso=$(testing/images/build.sh "$image"); ln -sfn "$iso" "$lab/installer.iso" ;;
    /*) ln -sfn "$image" "$lab/installer.iso" ;;
    *) die "image: tiny, debian, none or an absolute path, not $image" ;;
  esac
  if running; then
    echo "already running (process $(endpoint pid))"
    return
  fi
  rm -f "$lab/pve/endpoint.json"
  if [ "$port" != 0 ] && busy 127.0.0.1 "$port"; then
    die "port $port of 127.0.0.1 is in use by another program; choose a free one: LAB_PORT=18006 (make demo: DEMO_PORT=18006)"
  fi
  setsid "$testhost" serve --data "$lab/pve" --listen "127.0.0.1:$port" --accel "$accel" \
    --faults "$lab/faults.json" >"$lab/pve/server.log" 2>&1 </dev/null &
  server=$!
  disown
  until [ -s "$lab/pve/endpoint.json" ]; do
    tries=$((tries + 1))
    { [ "$tries" -lt 300 ] && kill -0 "$server" 2>/dev/null; } || { tail -n 5 "$lab/pve/server.log" >&2; die "the test host did not start: see $lab/pve/server.log"; }
    sleep 0.1
  done
  echo "the API is at https://127.0.0.1:$(endpoint api_port), its data in $lab/pve"
}

down() {
  [ -e "$lab" ] || return 0
  ours || die "$lab is not a directory that this script made: nothing was removed"
  if running; then "$testhost" stop --data "$lab/pve"; fi
  rm -rf "$lab"
}

[ $# -ge 2 ] || die "usage: scripts/lab.sh up DIR IMAGE | down DIR"
case $2 in
  /*) lab=$2 ;;
  *) die "DIR: an absolute path, not $2" ;;
esac
case $1 in
  up) up "${3:-tiny}" ;;
  down) down ;;
  *) die "usage: scripts/lab.sh up DIR IMAGE | down DIR" ;;
esac
