#!/bin/sh
# A NixOS installer, as far as nixos-anywhere asks: this computer's programs and an sshd, in namespaces of
# their own, with an own /nix, /mnt, /root, /run and os-release. $1 is the lab's directory, $2 is sshd.
set -eu
lab=$1 sshd=$2
mount --make-rprivate /
mount -t proc proc /proc
ip link set lo up
ip addr add 10.77.0.2/24 dev target
ip link set target up
mkdir -p "$lab/target"
mount -t tmpfs -o size=512m tmpfs "$lab/target"
for directory in nix mnt root run; do
  mkdir -p "$lab/target/$directory" "/$directory"
  mount --bind "$lab/target/$directory" "/$directory"
done
mkdir -p /run/sshd /root/.ssh /nix/store /nix/var/nix
cp "$lab/key.pub" /root/.ssh/authorized_keys
printf 'ID=nixos\nVARIANT_ID=installer\nVERSION_ID="26.05"\nPRETTY_NAME="NixOS 26.05"\n' >"$lab/os-release"
mount --bind "$lab/os-release" "$(readlink -f /etc/os-release)"
grep -v '^sshd:' /etc/passwd >"$lab/passwd"
echo 'sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin' >>"$lab/passwd"
mount --bind "$lab/passwd" /etc/passwd
cat >"$lab/sshd_config" <<CONF
Port 22
HostKey $lab/host_key
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
StrictModes no
AuthorizedKeysFile /root/.ssh/authorized_keys
SetEnv PATH=$lab/target-bin:$PATH NIX_CONF_DIR=$lab/target-conf LAB=$lab
CONF
# A jump host in the machine's network, which leads to the machine's loopback.
cp "$lab/hop_key.pub" "$lab/hop_authorized_keys"
cat >"$lab/hop_config" <<CONF
Port 2201
HostKey $lab/hop_host_key
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
StrictModes no
AuthorizedKeysFile $lab/hop_authorized_keys
LogLevel DEBUG1
ForceCommand false
CONF
"$sshd" -f "$lab/hop_config" -E "$lab/hop.log"
exec "$sshd" -D -f "$lab/sshd_config" -E "$lab/sshd.log"
