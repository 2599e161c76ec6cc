#!/usr/bin/env bash
# Try an image for real, with nothing but QEMU and the stand-ins: boot it with a cloud-init drive,
# log in with a host key known beforehand, install, start from the disk without ISO and drive, log in
# to what was installed, and shut it down. Prints how long each step took.
#
#   testing/images/smoke.sh tiny|debian [ISO]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?usage: smoke.sh tiny|debian [ISO]}
iso=${2:-$("$here/build.sh" "$name")}
case $name in
  tiny) memory=384 cpus=1 ;;
  *) memory=768 cpus=2 ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/nixos-proxmox-smoke.XXXXXX")
qemu=
finish() {
  local status=$?
  [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
  if [ "$status" != 0 ]; then
    echo "== failed; end of the serial console:" >&2
    tail -n 30 "$work/serial.log" >&2 || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
die() { echo "smoke: $*" >&2; exit 1; }

address=127.77.$((RANDOM % 200 + 20)).$((RANDOM % 200 + 20))
port=$((RANDOM % 20000 + 20000))
mac=bc:24:11:00:00:0b
cd "$work"
for key in client installer installed; do ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$key"; done
known() { echo "[$address]:$port $(cut -d' ' -f1,2 "$1.pub")" >known_hosts; }
ssh_options=(-o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o LogLevel=ERROR
  -o "UserKnownHostsFile=$work/known_hosts" -o ConnectTimeout=20 -i "$work/client")
guest() { timeout 60 ssh "${ssh_options[@]}" -p "$port" "root@$address" "$@" </dev/null; }

wait_for_ssh() { # wait_for_ssh SECONDS
  local deadline=$((SECONDS + $1))
  until guest true 2>ssh.err; do
    ! grep -q 'Host key verification failed' ssh.err || die "the host key is not the one handed in"
    kill -0 "$qemu" || die "QEMU ended"
    [ $SECONDS -lt $deadline ] || die "no login within $1 s: $(cat ssh.err)"
    sleep 1
  done
}

make_seed() {
  mkdir seed
  cat >seed/user-data <<SEED
#cloud-config
hostname: smoke
ssh_deletekeys: false
ssh_genkeytypes: []
disable_root: false
users:
- name: root
  ssh_authorized_keys: ["$(cat client.pub)"]
write_files:
- {path: /etc/ssh/ssh_host_ed25519_key, encoding: b64, content: $(base64 -w0 installer), permissions: '0600', owner: 'root:root'}
- {path: /etc/ssh/ssh_host_ed25519_key.pub, encoding: b64, content: $(base64 -w0 installer.pub), permissions: '0644', owner: 'root:root'}
SEED
  printf 'instance-id: smoke\nlocal-hostname: smoke\n' >seed/meta-data
  cat >seed/network-config <<SEED
version: 2
ethernets:
  eth0:
    match: {macaddress: "$mac"}
    set-name: eth0
    addresses: [10.77.0.11/24]
    routes: [{to: 0.0.0.0/0, via: 10.77.0.1}]
SEED
  : >seed/vendor-data
  xorriso -as mkisofs -quiet -o seed.iso -V cidata -J -r seed 2>/dev/null
}

start() { # start [DRIVE...]: with these CD-ROMs
  local drives=() index=0 drive
  for drive in "$@"; do
    drives+=(-drive "if=none,id=cd$index,media=cdrom,readonly=on,format=raw,file=$drive"
      -device "ide-cd,bus=ide.$((1 - index)),drive=cd$index,bootindex=$((101 + index))")
    index=$((index + 1))
  done
  qemu-system-x86_64 -machine pc -accel tcg,tb-size=128 -cpu qemu64 -smp "$cpus" -m "$memory" -nodefaults \
    -display none -vga std -serial "file:serial.log" -boot strict=on -no-reboot -device virtio-scsi-pci \
    -drive if=none,id=disk,file=disk.qcow2,discard=unmap -device scsi-hd,drive=disk,bootindex=100 \
    -qmp unix:qmp,server=on,wait=off -device virtio-serial-pci -chardev socket,path=agent,server=on,wait=off,id=agent \
    -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0 \
    -netdev "user,id=net0,restrict=on,net=10.77.0.0/24,host=10.77.0.1,dns=10.77.0.3,hostfwd=tcp:$address:$port-10.77.0.11:22" \
    -device "virtio-net-pci,netdev=net0,mac=$mac" "${drives[@]}" 2>qemu.err &
  qemu=$!
}

# One command for a QMP or guest agent socket, which may not answer it.
tell() { # tell SOCKET JSON...
  python3 -c '
import socket, sys, time
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
for command in sys.argv[2:]:
    connection.sendall(command.encode() + b"\n")
    time.sleep(1)
' "$@"
}

# The two ways in which PVE shuts a guest down.
power_off() { # power_off agent|acpi
  case $1 in
    agent) tell agent '{"execute": "guest-shutdown"}' ;;
    acpi) tell qmp '{"execute": "qmp_capabilities"}' '{"execute": "system_powerdown"}' ;;
  esac
  local deadline=$((SECONDS + 120))
  while kill -0 "$qemu" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || die "the guest does not power off ($1)"
    sleep 0.5
  done
  wait "$qemu" || die "QEMU failed: $(cat qemu.err)"
  qemu=
  say "powered off ($1)"
}

make_seed
qemu-img create -q -f qcow2 disk.qcow2 4G
mkdir -p flake extra/etc/ssh
echo '{ outputs = { self }: { }; }' >flake/flake.nix
printf '{"smoke": {"hostName": "smoke-installed", "authorizedKeysFile": "../client.pub"}}' >flake/stand-in.json
install -m 600 installed extra/etc/ssh/ssh_host_ed25519_key
install -m 644 installed.pub extra/etc/ssh/ssh_host_ed25519_key.pub
install -m 640 /dev/null extra/etc/brought
export STAND_IN_STORE=$work/store

say "starting $name"
known installer
SECONDS=0
start "$iso" seed.iso
wait_for_ssh 400
say "SSH, with the host key that was handed in"
# shellcheck disable=SC2016 # The guest expands it.
guest 'test "$(hostname)" = smoke && grep -q ^VARIANT_ID=installer /etc/os-release && su nixos -c "sudo -n true"' ||
  die "the installer is not as it should be"

# nixos-anywhere verifies no host key: an ssh of our own, first on PATH, does.
mkdir bin
printf '#!/bin/sh\nexec %s %s "$@"\n' "$(command -v ssh)" \
  "-o StrictHostKeyChecking=yes -o UserKnownHostsFile=$work/known_hosts" >bin/ssh
chmod +x bin/ssh
HOME=$work PATH=$work/bin:$PATH timeout 400 "$here/../stand-in/nixos-anywhere" "root@$address" -p "$port" -i client \
  --phases kexec,disko,install --flake "$work/flake#smoke" --extra-files extra --chown /etc/brought 12:34 \
  >install.log 2>&1 </dev/null || { cat install.log >&2; die "the installation failed"; }
[ "$(grep -c '^### .* ###$' install.log)" = 7 ] || { cat install.log >&2; die "unexpected steps"; }
closure=$(echo "$work"/store/*-nixos-system-*)
guest 'umount -R /mnt'
say "installed"
power_off agent

known installed
start
wait_for_ssh 400
say "SSH from the disk, with the installed host key"
guest "set -e
  test \"\$(hostname)\" = smoke-installed
  ! grep -q VARIANT_ID /etc/os-release
  test \"\$(readlink /run/current-system)\" = '$closure'
  test \"\$(stat -c %a:%u:%g /etc/brought)\" = 640:12:34
  findmnt -n -o SOURCE,FSTYPE / | grep -q '^/dev/sda2 *ext4'
  ! id nixos >/dev/null 2>&1
  ! test -e /root/.ssh/authorized_keys
  sync" || die "the installed system is not as it should be"
power_off acpi
