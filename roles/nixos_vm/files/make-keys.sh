#!/bin/sh
# make-keys.sh STATE_DIR NAME: the SSH keys of one installation, in a directory that only its owner
# may read. A private host key on standard input becomes the installed system's; an empty one is
# made. Keys that exist are kept, so that an interrupted installation goes on with its own.
# Prints a line for each thing made.
set -eu
umask 077
dir=$1
name=$2

mkdir -p "$dir"
chmod 700 "$dir"

# The public half is the last to appear and the first to go: where it is, the private one belongs to it.
adopt() {
  rm -f "$dir/$2.pub"
  # What was installed has another host key.
  [ "$2" != host_key ] || rm -f "$dir/closure"
  mv "$1" "$dir/$2"
  mv "$1.pub" "$dir/$2.pub"
  echo "made $2"
}

make() {
  [ -s "$dir/$1" ] && [ -s "$dir/$1.pub" ] && return
  ssh-keygen -q -t ed25519 -N '' -C "$2" -f "$work/$1"
  adopt "$work/$1" "$1"
}

work=$(mktemp -d "$dir/making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# What a killed run left.
for stale in "$dir"/making.*; do [ "$stale" = "$work" ] || rm -rf "$stale"; done

make installer_client_key "nixos-proxmox installer client of $name"
make installer_host_key "nixos-proxmox installer of $name"

cat >"$work/given"
if [ -s "$work/given" ]; then
  # Vault text may have lost its last newline, which ssh-keygen insists on.
  printf '\n' >>"$work/given"
  ssh-keygen -y -P '' -f "$work/given" >"$work/given.pub"
  cmp -s "$work/given.pub" "$dir/host_key.pub" && [ -s "$dir/host_key" ] || adopt "$work/given" host_key
else
  make host_key "$name"
fi
