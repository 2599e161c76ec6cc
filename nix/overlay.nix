# The project's packages for a nixpkgs of your own.
{ version }:
final: _prev: {
  nixos-proxmox-modules = final.callPackage ./modules.nix { inherit version; };
  nixos-proxmox-role = final.callPackage ./ansible-role.nix {
    inherit version;
    modules = final.nixos-proxmox-modules;
  };
  nixos-proxmox-provision = final.callPackage ./provision.nix {
    role = final.nixos-proxmox-role;
  };
}
