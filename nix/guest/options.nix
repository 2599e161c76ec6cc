# The facts. The role writes them as JSON with these names (nixos_vm_system_facts).
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  optional =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  several =
    description:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      inherit description;
    };
  ipv4 = "[0-9]{1,3}([.][0-9]{1,3}){3}";
  ipv6 = "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*";
in
{
  options.nixos-proxmox.guest = {
    vmid = optional (types.ints.between 100 999999999) "The VM's ID, if the inventory sets it.";
    node = optional types.str "The node on which the VM was created.";
    hostName = optional types.str "The host name.";

    configureNetwork = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the first NIC is configured by these facts. Turn it off for a network of your own.";
    };
    address = optional (types.strMatching "dhcp|${ipv4}") "The IPv4 address of the first NIC, or \"dhcp\".";
    prefixLength = optional (types.ints.between 1 32) "The prefix length of the address.";
    gateway = optional (types.strMatching ipv4) "The IPv4 gateway. It may be outside of the subnet.";
    ipv6 = {
      address = optional (types.strMatching "auto|dhcp|${ipv6}") "The IPv6 address of the first NIC, \"auto\" for router advertisements, or \"dhcp\".";
      prefixLength = optional (types.ints.between 1 128) "The prefix length of the IPv6 address.";
      gateway = optional (types.strMatching ipv6) "The IPv6 gateway.";
    };
    nameservers = several "Name servers.";
    searchDomains = several "Search domains.";
    mac = optional (types.strMatching "([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}") "The MAC address of the first NIC. Without it every physical NIC is configured, which is right for one.";

    authorizedKeys = several "Public keys that may log in as root.";
    hostKeyPath = optional (types.strMatching "/.*ssh_host_(ecdsa|ed25519|rsa)_key") "The SSH host key that the installation brings. sshd offers no other then, unless services.openssh.hostKeys has more.";
    diskDevice = mkOption {
      type = types.strMatching "/dev/.+";
      default = "/dev/sda";
      description = "The disk that NixOS is installed onto, for disko.devices.";
    };
    bios = mkOption {
      type = types.enum [
        "ovmf"
        "seabios"
      ];
      # Proxmox VE has no SeaBIOS for ARM.
      default = if pkgs.stdenv.hostPlatform.isx86_64 then "seabios" else "ovmf";
      description = "The firmware.";
    };
  };
}
