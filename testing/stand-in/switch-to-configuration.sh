#!/bin/sh
# A stand-in for the program of a NixOS system that activates it: puts the system's etc into /etc and runs what stand-in.json says.
set -eu
system=$(dirname "$(dirname "$(readlink -f "$0")")")
case ${1-} in
  switch | test)
    echo "activating the configuration..."
    tar -C "$system/etc" -cf - . | tar -C /etc -xf - --no-same-owner
    ln -sfn "$system" /run/current-system.new
    mv -fT /run/current-system.new /run/current-system
    if [ -e "$system/activate" ]; then sh -e "$system/activate"; fi
    ;;
esac
case ${1-} in
  switch | boot) if [ -e "$system/boot" ]; then sh -e "$system/boot"; fi ;;
  test) ;;
  dry-activate) echo "would activate $system" ;;
  *)
    echo "Usage: $0 [switch|boot|test|dry-activate]" >&2
    exit 1
    ;;
esac
