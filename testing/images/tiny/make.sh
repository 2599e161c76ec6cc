#!/usr/bin/env bash
# The small image: Debian's cloud kernel and one initramfs holding the whole system. Called by
# build.sh: make.sh WORK ISO, with PROJECT and CACHE in the environment. Needs no privilege: packages
# are only unpacked, and the archive gives every file to root.
#
# Two archives are loaded as one initramfs: boot.img (busybox, modules, /init), which an installed
# system boots with too, and root.img (everything else).
set -euo pipefail

WORK=$1
iso=$2
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../lib/debian.sh
. "$here/../lib/debian.sh"

packages=(linux-image-cloud-amd64 busybox-static dash openssh-server openssh-client sudo qemu-guest-agent
  util-linux mount fdisk tar cpio e2fsprogs grub-pc-bin grub2-common)
programs=(dash sshd ssh-keygen sudo qemu-ga tar cpio setsid mount umount mountpoint findmnt lsblk blkid wipefs sfdisk
  mke2fs grub-install grub-probe grub-mkimage)
modules=(virtio_pci virtio_scsi virtio_blk virtio_net virtio_console virtio-rng virtio_balloon ata_piix
  sd_mod sr_mod isofs nls_utf8 ext4 button evdev)

tree=$WORK/packages boot=$WORK/boot root=$WORK/root

merged_usr() {
  mkdir -p "$1"/usr/{bin,sbin,lib,lib64}
  for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$1/$directory"; done
}

boot_image() {
  merged_usr "$boot"
  mkdir -p "$boot"/{proc,sys,dev,run,newroot}
  cp "$tree/bin/busybox" "$boot/usr/bin/"
  install -m 755 "$here/boot/init" "$boot/init"
  local version list
  version=$(ls "$tree/lib/modules")
  "$tree/bin/busybox" depmod -b "$tree" "$version"
  list=$tree/lib/modules/$version/modules.dep
  mkdir -p "$boot/lib/modules/$version"
  cp "$tree/lib/modules/$version"/modules.{builtin,order} "$boot/lib/modules/$version/"
  for module in "${modules[@]}"; do
    # "path/a.ko: path/b.ko path/c.ko"; one that is not there is built in.
    { grep -E "(^|/)${module//[-_]/[-_]}\.ko:" "$list" || true; } | tr -d : | tr ' ' '\n'
  done | sort -u | while read -r file; do
    [ -n "$file" ] || continue
    install -D -m 644 "$tree/lib/modules/$version/$file" "$boot/lib/modules/$version/$file"
  done
  "$tree/bin/busybox" depmod -b "$boot" "$version"
  printf '%s\n' "${modules[@]}" >"$boot/lib/modules/load"
}

# With the unpacked system's own loader, so that no file of this machine is ever taken.
libraries() {
  local path="$tree/lib/x86_64-linux-gnu:$tree/usr/lib/x86_64-linux-gnu:$tree/usr/libexec/sudo"
  "$tree/lib64/ld-linux-x86-64.so.2" --library-path "$path" --list "$1" |
    awk -v tree="$tree/" 'index($3, tree) == 1 { print $3 }'
}

root_image() {
  merged_usr "$root"
  mkdir -p "$root"/{boot,etc,home/nixos,mnt,nix,root,tmp,var/empty,var/log} "$root/usr/lib/x86_64-linux-gnu"
  mkdir -p "$root/usr/libexec/sudo" "$root/usr/lib/openssh" "$root/usr/lib/grub"
  local program file binaries=()
  for program in "${programs[@]}"; do
    file=$(find "$tree/usr/bin" "$tree/usr/sbin" -name "$program" | head -n 1)
    [ -n "$file" ] || { echo "no package brought $program" >&2; exit 1; }
    cp "$file" "$root/${file#"$tree"/}"
    binaries+=("$file")
  done
  ln -s mke2fs "$root/usr/sbin/mkfs.ext4"
  cp "$tree/usr/lib/openssh/sftp-server" "$root/usr/lib/openssh/"
  cp "$tree"/usr/libexec/sudo/{sudoers.so,libsudo_util.so.0} "$root/usr/libexec/sudo/"
  install -D "$tree/usr/lib/x86_64-linux-gnu/security/pam_permit.so" \
    "$root/usr/lib/x86_64-linux-gnu/security/pam_permit.so"
  cp -r "$tree/usr/lib/grub/i386-pc" "$root/usr/lib/grub/"
  binaries+=("$tree/usr/lib/openssh/sftp-server" "$tree/usr/libexec/sudo/sudoers.so")
  cp "$tree/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$root/usr/lib64/"
  for file in "${binaries[@]}"; do libraries "$file"; done | sort -u | while read -r file; do
    cp -L "$file" "$root/usr/lib/x86_64-linux-gnu/"
  done
  for program in $("$tree/bin/busybox" --list); do
    [ -e "$root/usr/bin/$program" ] || [ -e "$root/usr/sbin/$program" ] || [ "$program" = busybox ] ||
      ln -s busybox "$root/usr/bin/$program"
  done
  # Not busybox's own shell: that one runs its applets instead of the real programs beside them.
  ln -sf dash "$root/usr/bin/sh"
  ln -s ../bin/busybox "$root/usr/sbin/init"
  cp -r "$here/root/." "$here/../lib/root/." "$root/"
  install -m 755 "$(seed_init)" "$root/usr/sbin/seed-init"
  chmod 440 "$root/etc/sudoers" "$root"/etc/sudoers.d/*
  chmod 640 "$root/etc/shadow"
  chmod 700 "$root/root"
  chmod 1777 "$root/tmp"
  chmod 4755 "$root/usr/bin/sudo"
}

# Linked statically: the guest's C library is older than most build machines'.
seed_init() {
  local target=x86_64-unknown-linux-gnu
  RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release --package seed-init \
    --manifest-path "$PROJECT/Cargo.toml" --target "$target" --target-dir "$PROJECT/target/seed-init" >&2
  printf '%s\n' "$PROJECT/target/seed-init/$target/release/seed-init"
}

# The kernel's lz4 reader wants either nothing or four zero bytes behind an archive, while boot
# loaders pad with up to three: hence the padding to whole blocks here.
pack() { # pack TREE FILE
  (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
    cpio --quiet --null --create --format=newc --owner=+0:+0 --reproducible) | lz4 -q -l -9 >"$2"
  truncate -s "$((($(stat -c %s "$2") / 4096 + 2) * 4096))" "$2"
}

merged_usr "$tree"
debian_unpack "$tree" "${packages[@]}"
boot_image
root_image

medium=$WORK/iso
mkdir -p "$medium/boot" "$medium/isolinux"
cp "$tree"/boot/vmlinuz-* "$medium/boot/vmlinuz"
pack "$boot" "$medium/boot/boot.img"
pack "$root" "$medium/boot/root.img"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$medium/isolinux/"
cp "$here/isolinux.cfg" "$medium/isolinux/"
xorriso -as mkisofs -quiet -o "$iso" -V NIXOS_STAND_IN_TINY -r -J -c isolinux/boot.cat \
  -b isolinux/isolinux.bin -no-emul-boot -boot-load-size 4 -boot-info-table "$medium"
