{
  description = "NixOS machines on Proxmox VE: the installer's image, the guests, the Ansible modules and the role";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      inherit (lib.importTOML ./Cargo.toml) workspace;
      inherit (workspace.package) version;

      architectures = [
        "x86_64"
        "aarch64"
      ];
      eachSystem =
        f:
        lib.genAttrs (map (arch: "${arch}-linux") architectures) (
          system: f nixpkgs.legacyPackages.${system}
        );

      installer =
        arch:
        lib.nixosSystem {
          modules = [
            self.nixosModules.installer-iso
            {
              nixpkgs.hostPlatform = "${arch}-linux";
              # A name that stays the same until the next version.
              image.baseName = lib.mkForce "nixos-proxmox-installer-${version}-${arch}";
            }
          ];
        };
    in
    {
      # Imported here: Nix 2.8, which Debian 12 has, takes no paths.
      nixosModules = {
        default = import ./nix/installer;
        installer = import ./nix/installer;
        installer-iso = import ./nix/installer/image.nix;
        guest = import ./nix/guest;
        disk-image = import ./nix/disk-image.nix;
      };

      # `nixos-generators --flake .#x86_64` goes by these names.
      nixosConfigurations = lib.genAttrs architectures installer;

      overlays.default = import ./nix/overlay.nix { inherit version; };

      packages = eachSystem (pkgs: import ./nix/packages.nix { inherit pkgs version self; });

      apps = eachSystem (
        pkgs:
        let
          provision = {
            type = "app";
            program = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.provision;
            meta.description = "ansible-playbook provision.yml, with everything it needs";
          };
        in
        {
          inherit provision;
          default = provision;
        }
      );

      devShells = eachSystem (pkgs: {
        default = import ./nix/shell.nix { inherit pkgs self; };
      });

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);

      checks = eachSystem (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs self;
          inherit (lib) nixosSystem;
        }
      );
    };
}
