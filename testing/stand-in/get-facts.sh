#!/bin/sh
# What nixos-anywhere asks the target, as NAME=VALUE lines; sent to its shell on stdin.
set -efu ${enableDebug:+"$enableDebug"}
has() {
  if command -v "$1" >/dev/null 2>&1; then echo y; else echo n; fi
}
is_nixos=n is_installer=n
if [ -f /etc/os-release ]; then
  if grep -Eq 'ID(_LIKE)?="?nixos"?' /etc/os-release; then is_nixos=y; fi
  if [ "$is_nixos" = y ] && grep -Eq 'VARIANT_ID="?installer"?' /etc/os-release; then is_installer=y; fi
fi
cat <<FACTS
isOs=$(uname)
isArch=$(uname -m)
isNixos=$is_nixos
isInstaller=$is_installer
isContainer=$(if [ "$(has systemd-detect-virt)" = y ]; then systemd-detect-virt --container; else echo none; fi)
isRoot=$(if [ "$(id -u)" -eq 0 ]; then echo y; else echo n; fi)
hasIpv6Only=n
hasTar=$(has tar)
hasCpio=$(has cpio)
hasSudo=$(has sudo)
hasDoas=$(has doas)
hasWget=$(has wget)
hasCurl=$(has curl)
hasSetsid=$(if setsid --wait true 2>/dev/null; then echo y; else echo n; fi)
hasNixOSFacter=$(has nixos-facter)
FACTS
