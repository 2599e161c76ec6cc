# The address of a machine with one NIC. The installed system must answer where its installer did, so this is the inventory's address.
# For an address from DHCP: networkConfig.DHCP = "yes" instead of address, gateway and dns.
{
  address,
  gateway,
  nameservers,
}:
{
  networking.useNetworkd = true;
  networking.useDHCP = false;
  systemd.network.networks."10-lan" = {
    matchConfig.Type = "ether";
    address = [ address ];
    gateway = [ gateway ];
    dns = nameservers;
  };
}
