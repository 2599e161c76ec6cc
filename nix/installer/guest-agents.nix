# The agents of the usual hypervisors. Each starts only on its own hypervisor. VirtualBox needs none: its guest additions are
# a kernel module outside of the kernel's tree, which often does not build with a new kernel. See docs/installer.md.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  # Xen's agent is not packaged for ARM.
  onX86 = lib.mkIf pkgs.stdenv.hostPlatform.isx86_64;
in
{
  # QEMU: Proxmox VE shuts down through it, and reads addresses and host keys with it.
  services.qemuGuest.enable = true;

  virtualisation.vmware.guest = {
    enable = true;
    headless = true;
  };

  # Hyper-V. virtualisation.hypervGuest would add kernel parameters and modules to every boot, on other hypervisors too.
  # The kernel loads the drivers by itself; only the daemons are missing.
  systemd.packages = lib.mkMerge [
    [ config.boot.kernelPackages.hyperv-daemons.lib ]
    (onX86 [ pkgs.xen-guest-agent ])
  ];
  systemd.targets.hyperv-daemons = {
    wantedBy = [ "multi-user.target" ];
    unitConfig.ConditionVirtualization = "microsoft";
  };

  systemd.services.xen-guest-agent = onX86 {
    wantedBy = [ "multi-user.target" ];
    unitConfig.ConditionVirtualization = "xen";
  };
}
