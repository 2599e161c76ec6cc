{
  description = "Machines to install: give them your addresses, and add what they are for";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    disko = {
      url = "github:nix-community/disko";
      inputs.nixpkgs.follows = "nixpkgs";
    };
    # For vault1 only. Without its own inputs, which only its tests need.
    impermanence = {
      url = "github:nix-community/impermanence";
      inputs.nixpkgs.follows = "";
      inputs.home-manager.follows = "";
    };
  };

  outputs =
    {
      nixpkgs,
      disko,
      impermanence,
      ...
    }:
    let
      # Addresses as the inventory has them (nixos_vm_ip, nixos_vm_gateway, nixos_vm_nameservers).
      lan = address: {
        inherit address;
        gateway = "192.0.2.1";
        nameservers = [ "192.0.2.1" ];
      };
      machine =
        modules: name: network:
        nixpkgs.lib.nixosSystem {
          modules = [
            disko.nixosModules.disko
            ./configuration.nix
            (import ./network.nix network)
            { networking.hostName = name; }
          ]
          ++ modules;
        };
    in
    {
      nixosConfigurations =
        builtins.mapAttrs (machine [ ./disk.nix ]) {
          web1 = lan "192.0.2.11/24";
          db1 = lan "192.0.2.12/24";
          # Of `make demo REAL_NIX=1`.
          demo1 = {
            address = "10.77.0.11/24";
            gateway = "10.77.0.1";
            nameservers = [ "10.77.0.3" ];
          };
        }
        # Encrypted, and with a root file system that is empty after every boot.
        // builtins.mapAttrs (machine [
          impermanence.nixosModules.impermanence
          ./vault
        ]) { vault1 = lan "192.0.2.13/24"; };
    };
}
