#!/bin/sh
# A stand-in for the script that disko makes (mode: @mode@): one GPT disk with a partition for the
# boot loader and one ext4 root, mounted at /mnt. The `nix` stand-in fills in mode and device.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mode=@mode@ device=@device@

if [ -z "$device" ]; then
  for candidate in /dev/sda /dev/vda /dev/nvme0n1; do
    if [ -b "$candidate" ]; then device=$candidate && break; fi
  done
fi
if [ ! -b "$device" ]; then
  echo "disko (stand-in): there is no disk ${device:-(/dev/sda, /dev/vda or /dev/nvme0n1)}" >&2
  exit 1
fi
case $device in
  *[0-9]) root=${device}p2 ;;
  *) root=${device}2 ;;
esac

if [ "$mode" != mount ]; then
  echo "disko (stand-in): making $device anew"
  if mountpoint -q /mnt; then umount -R /mnt; fi
  wipefs -q -a "$device"
  sfdisk -q "$device" <<TABLE
label: gpt
size=2MiB, type=21686148-6449-6E6F-744E-656564454649, name=boot
type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root
TABLE
  tries=0
  until [ -b "$root" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "disko (stand-in): $root did not appear" >&2; exit 1; }
    sleep 0.1
  done
  mke2fs -q -F -t ext4 -L nixos "$root"
fi
if [ "$mode" != format ] && ! mountpoint -q /mnt; then
  mkdir -p /mnt
  mount -t ext4 "$root" /mnt
fi
