# networkd, which cloud-init writes its network configuration for, and DHCP where it wrote none.
{ lib, ... }:
{
  networking = {
    useNetworkd = true;
    useDHCP = false;
    dhcpcd.enable = false;
    networkmanager.enable = lib.mkForce false;
    wireless.enable = lib.mkForce false;

    # cloud-init matches the MAC address *and* the name ethN that Proxmox VE puts into its drive.
    usePredictableInterfaceNames = false;
  };

  systemd.network = {
    # Sorts after cloud-init's 10-cloud-init-*.network, so that it only gets what those leave over.
    networks."99-dhcp" = {
      matchConfig.Type = "ether";
      networkConfig.DHCP = "yes";
      networkConfig.IPv6AcceptRA = true;
      # A second NIC must not take the default route of the one that was configured.
      dhcpV4Config.RouteMetric = 4096;
      ipv6AcceptRAConfig.RouteMetric = 4096;
    };

    # sshd waits for cloud-init, and that for the network: one working NIC is enough.
    wait-online = {
      anyInterface = true;
      timeout = 30;
    };
  };
}
