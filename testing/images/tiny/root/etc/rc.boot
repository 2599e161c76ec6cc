#!/bin/sh
# Everything that must be there before sshd starts.
export PATH=/usr/sbin:/usr/bin
mount -t tmpfs -o mode=755,nosuid,nodev run /run
mkdir -p /dev/pts /dev/shm /run/sshd /run/lock /run/seed
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
chown 1000:1000 /home/nixos 2>/dev/null

if grep -q '^VARIANT_ID=installer$' /etc/os-release; then
  # A cloud-init drive, if one is attached; it is not kept mounted, so that it can be ejected.
  tries=0
  while [ "$tries" -lt 15 ]; do
    for label in cidata CIDATA config-2 CONFIG-2; do
      seed=$(blkid -c /dev/null -L "$label") && break 2
    done
    tries=$((tries + 1))
    usleep 200000
  done
  if [ -n "$seed" ] && mount -t iso9660 -o ro "$seed" /run/seed; then
    seed-init /run/seed >/dev/console 2>&1
    umount /run/seed
  fi
fi
system=$(readlink -f /nix/var/nix/profiles/system) && ln -s "$system" /run/current-system

hostname -F /etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$(hostname)" >/etc/hosts
[ -e /etc/ssh/ssh_host_ed25519_key ] ||
  ssh-keygen -q -t ed25519 -N '' -C "root@$(hostname)" -f /etc/ssh/ssh_host_ed25519_key
/usr/lib/stand-in/network
