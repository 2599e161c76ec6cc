# The first NIC by networkd: the installed system has to answer where its installer did.
{ config, lib, ... }:
let
  cfg = config.nixos-proxmox.guest;
  inherit (cfg) ipv6;

  isStatic =
    address:
    !(lib.elem address [
      null
      "auto"
      "dhcp"
    ]);
  withPrefix = ip: "${ip.address}/${toString ip.prefixLength}";
  ips = lib.filter (ip: isStatic ip.address) [
    cfg
    ipv6
  ];
  dhcp4 = cfg.address == "dhcp";
  dhcp6 = ipv6.address == "dhcp";
in
{
  config = lib.mkIf cfg.configureNetwork {
    assertions = [
      {
        # Rather than a system that is switched to, and leaves the network.
        assertion = cfg.address != null || ipv6.address != null;
        message = ''
          nixos-proxmox.guest.address: is not set, so the machine would have no network.
          Build it with the facts of its inventory (nixos_vm_system_facts), set the address here ("dhcp" is one),
          or set nixos-proxmox.guest.configureNetwork = false for a network of your own.'';
      }
      {
        assertion = lib.filter (ip: ip.prefixLength == null) ips == [ ];
        message = "nixos-proxmox.guest.prefixLength and ipv6.prefixLength: are required with an address";
      }
    ];

    networking.useNetworkd = lib.mkDefault true;
    networking.useDHCP = lib.mkDefault false;

    systemd.network.networks."10-nixos-proxmox" = {
      matchConfig =
        if cfg.mac != null then
          # Not MACAddress, which a VLAN or a bridge on this NIC has as well.
          { PermanentMACAddress = cfg.mac; }
        else
          {
            Type = "ether";
            # No bridges, no containers' NICs.
            Kind = "!*";
          };
      address = map withPrefix ips;
      # On the link, as Proxmox VE's cloud-init drives have them: a gateway may be outside of the subnet.
      routes = map (ip: {
        Gateway = ip.gateway;
        GatewayOnLink = true;
      }) (lib.filter (ip: ip.gateway != null) ips);
      dns = lib.unique cfg.nameservers;
      domains = lib.mkIf (cfg.searchDomains != [ ]) (lib.unique cfg.searchDomains);
      networkConfig = {
        DHCP =
          if dhcp4 && dhcp6 then
            "yes"
          else if dhcp4 then
            "ipv4"
          else if dhcp6 then
            "ipv6"
          else
            "no";
        IPv6AcceptRA = lib.mkIf (dhcp6 || ipv6.address == "auto") true;
      };
    };
  };
}
