# Kernel messages and a login on the screen and on the serial console.
{ lib, pkgs, ... }:
{
  boot.kernelParams = [
    "console=tty1"
  ]
  # The last one is /dev/console: `qm terminal` asks for a disk's passphrase.
  ++ lib.optional pkgs.stdenv.hostPlatform.isx86_64 "console=ttyS0,115200"
  ++ lib.optional pkgs.stdenv.hostPlatform.isAarch64 "console=ttyAMA0,115200";
}
