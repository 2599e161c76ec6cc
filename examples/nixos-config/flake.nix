{
  description = "Machines to install: put your keys into configuration.nix, and add what they are for";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    disko = {
      url = "github:nix-community/disko";
      inputs.nixpkgs.follows = "nixpkgs";
    };
    # For vault1 only.
    impermanence.url = "github:nix-community/impermanence";
  };

  outputs =
    {
      nixpkgs,
      disko,
      impermanence,
      ...
    }:
    let
      machine =
        modules: name:
        nixpkgs.lib.nixosSystem {
          modules = [
            disko.nixosModules.disko
            ./configuration.nix
            { networking.hostName = name; }
          ]
          ++ modules;
        };
    in
    {
      nixosConfigurations =
        nixpkgs.lib.genAttrs [ "demo1" "web1" "db1" ] (machine [ ./disk.nix ])
        # Encrypted, and with a root file system that is empty after every boot.
        // nixpkgs.lib.genAttrs [ "vault1" ] (machine [
          impermanence.nixosModules.impermanence
          ./vault
        ]);
    };
}
