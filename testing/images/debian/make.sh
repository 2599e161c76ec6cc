#!/usr/bin/env bash
# The Debian live image: systemd, live-boot and the real cloud-init, set up as NixOS sets it up.
# Called by build.sh: make.sh WORK ISO, with PROJECT and CACHE in the environment. As root, or as
# anybody through mmdebstrap's user namespaces.
set -euo pipefail

WORK=$1
iso=$2
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../lib/debian.sh
. "$here/../lib/debian.sh"

# Not the cloud kernel: that one lacks the driver of q35's CD-ROM drives.
packages=(linux-image-amd64 live-boot live-boot-initramfs-tools systemd-sysv udev dbus kmod lz4
  cloud-init openssh-server sudo qemu-guest-agent iproute2 procps fdisk cpio e2fsprogs squashfs-tools
  grub-pc-bin grub2-common libnss-myhostname)

# What no virtual machine has.
without=()
for directory in sound net/{bluetooth,mac80211,wireless} fs/{btrfs,ceph,gfs2,ocfs2,xfs} \
  drivers/{bluetooth,gpu,hid,hwmon,iio,infiniband,isdn,md,media,mmc,mtd,net,nfc,platform,staging,target,usb}; do
  without+=(--dpkgopt="path-exclude=/lib/modules/*/kernel/$directory/*")
done
without+=(--dpkgopt='path-include=/lib/modules/*/kernel/drivers/net/virtio_net.ko')
without+=(--dpkgopt='path-include=/lib/modules/*/kernel/drivers/net/net_failover.ko')

overlay=$WORK/overlay
mkdir -p "$overlay" "$WORK/boot"
cp -r "$here/root/." "$here/../lib/root/." "$overlay/"
chmod 440 "$overlay"/etc/sudoers.d/*
export OVERLAY=$overlay BOOT=$WORK/boot

# Files first: the initramfs is made while the kernel is being installed.
# shellcheck disable=SC2016 # mmdebstrap's own shell expands the hook.
mmdebstrap --variant=essential --architectures=amd64 --include="${packages[*]}" \
  --keyring="$keyring" \
  --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/i18n/*' \
  "${without[@]}" \
  --essential-hook='cp -r "$OVERLAY/etc/initramfs-tools" "$1/etc/"' \
  --customize-hook="$here/customize.sh" \
  "$release" "$WORK/tree.tar" "deb [signed-by=$keyring] $mirror $release main"

# Without -no-duplicates mksquashfs 4.5.1 (Debian 12) takes different blocks for the same one when
# it has more than one processor, and so loses one of them: seen in three builds of four from the
# same tree. What was written is read back once all the same.
mksquashfs - "$WORK/filesystem.squashfs" -tar -comp lz4 -no-duplicates -no-progress -quiet -noappend <"$WORK/tree.tar"
# Its exit status is of no use here: only root can make the device nodes.
unsquashfs -quiet -no-progress -dest "$WORK/check" "$WORK/filesystem.squashfs" >"$WORK/check.log" 2>&1 || true
rm -rf "$WORK/check"
if grep -Ei 'uncompress|failed to read|FATAL' "$WORK/check.log"; then
  echo "mksquashfs wrote a file system that cannot be read" >&2
  exit 1
fi

medium=$WORK/iso
mkdir -p "$medium/live" "$medium/isolinux"
cp "$WORK/boot/vmlinuz" "$WORK/boot/initrd.img" "$WORK/filesystem.squashfs" "$medium/live/"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$medium/isolinux/"
cp "$here/isolinux.cfg" "$medium/isolinux/"
xorriso -as mkisofs -quiet -o "$iso" -V NIXOS_STAND_IN_DEBIAN -r -J -c isolinux/boot.cat \
  -b isolinux/isolinux.bin -no-emul-boot -boot-load-size 4 -boot-info-table "$medium"
