#!/usr/bin/env bash
# Build a live "installer" ISO for the demo and the tests, and print its path (nothing else) on
# stdout. The images are made from Debian packages and stand in for a NixOS installer ISO.
#
#   testing/images/build.sh tiny     busybox and an initramfs: small, boots in seconds even without KVM
#   testing/images/build.sh debian   Debian live with systemd and the real cloud-init
#
# Images are cached by content in .cache/images (NIXOS_PROXMOX_IMAGES overrides it): the name holds
# a hash of everything here that goes into them, so that an unchanged image is built once only.
# Needs the packages that `scripts/setup.sh guest` installs, and the network for Debian packages.
set -euo pipefail

die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '== %s\n' "$*" >&2; }

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=${NIXOS_PROXMOX_IMAGES:-$project/.cache/images}
name=${1:-}
[ $# = 1 ] && [ -n "$name" ] && [ -x "$here/$name/make.sh" ] || die "usage: build.sh tiny|debian"
[ "$(uname -m)" = x86_64 ] || die "the images are built on x86_64 only"
for tool in xorriso cpio lz4 mksquashfs mmdebstrap flock sha256sum; do
  command -v "$tool" >/dev/null || die "$tool is missing: run scripts/setup.sh guest"
done

# Everything that decides what is in the image: this directory less the other image and the tests.
inputs() {
  find "$here/$name" "$here/lib" "$here/build.sh" -type f -print
  [ "$name" != tiny ] || find "$project/testing/seed-init" -type f -print
}
hash=$(inputs | LC_ALL=C sort | while read -r file; do
  printf '%s %s\n' "${file#"$project"/}" "$(stat -c %a "$file")"
  cat "$file"
done | sha256sum | cut -c1-16)
iso=$cache/$name-$hash.iso

mkdir -p "$cache"
exec 9>"$cache/$name.lock"
if [ ! -e "$iso" ]; then
  flock 9 # somebody else may be building the same image: wait for it
fi
if [ ! -e "$iso" ]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/nixos-proxmox-$name.XXXXXX")
  chmod 755 "$work"
  partial=$iso.$$.partial
  # A tree unpacked inside a user namespace can belong to other ids: remove it there.
  cleanup() {
    rm -f "$partial"
    rm -rf "$work" 2>/dev/null || mmdebstrap --unshare-helper rm -rf "$work" || true
  }
  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  say "building $name ($hash)"
  started=$SECONDS
  # The builders' descriptors must not keep the lock when one of their children outlives them.
  PROJECT=$project CACHE=$cache "$here/$name/make.sh" "$work" "$partial" >"$work/log" 2>&1 9>&- || {
    cat "$work/log" >&2
    die "building $name failed"
  }
  mv "$partial" "$iso"
  say "$name: $(($(stat -c %s "$iso") / 1048576)) MiB in $((SECONDS - started)) s: $iso"
fi
printf '%s\n' "$iso"
