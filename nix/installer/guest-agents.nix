# The agents of the usual hypervisors. Each starts only on its own.
{ lib, pkgs, ... }:
let
  # Neither VirtualBox nor Xen's agent is there for ARM.
  onX86 = lib.mkIf pkgs.stdenv.hostPlatform.isx86_64;
in
{
  # QEMU: Proxmox VE shuts down through it, and reads addresses and host keys with it.
  services.qemuGuest.enable = true;
  services.spice-vdagentd.enable = true;

  virtualisation = {
    hypervGuest.enable = true;
    virtualbox.guest.enable = onX86 true;
    vmware.guest = {
      enable = true;
      headless = true;
    };
  };

  systemd.packages = onX86 [ pkgs.xen-guest-agent ];
  systemd.services.xen-guest-agent = onX86 {
    wantedBy = [ "multi-user.target" ];
    unitConfig.ConditionVirtualization = "xen";
  };
}
