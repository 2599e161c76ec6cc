#!/bin/sh
# Run by mmdebstrap on the finished tree: put our files in, and leave out what costs boot time.
set -eu
tree=$1
cp -r "$OVERLAY/." "$tree/"
rm -f "$tree/etc/machine-id" "$tree"/etc/ssh/ssh_host_* "$tree/etc/resolv.conf" "$tree/var/lib/dbus/machine-id"
: >"$tree/etc/machine-id"
echo nixos >"$tree/etc/hostname"
echo '127.0.0.1 localhost' >"$tree/etc/hosts"
chroot "$tree" useradd --create-home --shell /bin/sh nixos
# No password will ever do, yet keys may be used.
chroot "$tree" usermod --password '*' nixos
chroot "$tree" usermod --password '*' root
chroot "$tree" systemctl --quiet enable systemd-networkd.service sshd-keygen.service current-system.service
# Nothing here needs these, and under emulation every unit counts.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer getty@tty1.service cloud-init-hotplugd.socket systemd-networkd-wait-online.service \
  systemd-pstore.service systemd-binfmt.service systemd-journal-flush.service systemd-update-utmp.service \
  systemd-update-utmp-runlevel.service systemd-timesyncd.service systemd-udev-settle.service \
  modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@configfs.service \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
  sys-fs-fuse-connections.mount sys-kernel-config.mount tmp.mount rsync.service; do
  ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
# The stand-in's store has the paths that it has on the controller, which may be below /tmp: nothing there is removed at boot.
ln -sf /dev/null "$tree/etc/tmpfiles.d/tmp.conf"
cp "$tree"/boot/vmlinuz-* "$BOOT/vmlinuz"
cp "$tree"/boot/initrd.img-* "$BOOT/initrd.img"
chmod 644 "$BOOT"/*
rm -rf "${tree:?}"/boot/* "$tree"/vmlinuz* "$tree"/initrd.img* "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* \
  "$tree"/var/log/* "$tree"/usr/share/doc "$tree"/usr/share/man "$tree"/usr/share/locale
