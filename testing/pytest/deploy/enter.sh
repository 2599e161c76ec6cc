#!/bin/sh
# Run a command, $2, as root of a machine that has this computer's programs and files, but a /run, /nix, os-release and number of the boot
# of its own, which are below $1. In a user namespace, so that it needs no root.
set -eu
lab=$1 command=$2 root=$1/root
mount -t tmpfs tmpfs "$root"
for entry in /*; do
  case $entry in
  /run | /nix) ;;
  *)
    if [ -L "$entry" ]; then
      ln -s "$(readlink "$entry")" "$root$entry"
    elif [ -d "$entry" ]; then
      mkdir "$root$entry"
      mount --rbind "$entry" "$root$entry"
    fi
    ;;
  esac
done
for name in run nix; do
  mkdir "$root/$name"
  mount --bind "$lab/$name" "$root/$name"
done
mount --bind "$lab/os-release" "$root$(readlink -f /etc/os-release)"
mount --bind "$lab/boot_id" "$root/proc/sys/kernel/random/boot_id"
exec chroot "$root" env PATH="$lab/tools:$PATH" LAB="$lab" sh -c "$command"
