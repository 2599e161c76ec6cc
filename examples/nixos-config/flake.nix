{
  description = "Machines to install: the inventory says where they are, add what they are for";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    nixos-proxmox = {
      url = "github:nixos-proxmox/nixos-proxmox";
      inputs.nixpkgs.follows = "nixpkgs";
    };
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
      nixos-proxmox,
      disko,
      impermanence,
      ...
    }:
    let
      inherit (nixpkgs) lib;

      # What the inventory knows of a machine, as the role writes it (nixos_vm_system_facts: file). Facts that the role passes to the
      # build instead (nixos_vm_system_facts: wrapper) take precedence.
      facts =
        name:
        let
          file = ./facts + "/${name}.json";
        in
        lib.optionalAttrs (builtins.pathExists file) (lib.importJSON file);

      machine =
        modules: name:
        lib.nixosSystem {
          modules = [
            disko.nixosModules.disko
            nixos-proxmox.nixosModules.guest
            ./configuration.nix
            { nixos-proxmox.guest = lib.mkDefault (facts name); }
          ]
          ++ modules;
        };
    in
    {
      nixosConfigurations =
        lib.genAttrs [
          "web1"
          "db1"
          # Of `make demo REAL_NIX=1`.
          "demo1"
        ] (machine [ ./disk.nix ])
        # Encrypted, and with a root file system that is empty after every boot.
        // lib.genAttrs [ "vault1" ] (machine [
          impermanence.nixosModules.impermanence
          ./vault
        ]);
    };
}
