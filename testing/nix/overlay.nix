# nix-instantiate --eval: the overlay, on top of the stand-in's packages.
let
  inherit ((import ./nixpkgs/flake.nix).outputs { }) legacyPackages;
  pkgs = legacyPackages.x86_64-linux;
  overlay = import ../../nix/overlay.nix { version = "0"; };
  final =
    pkgs
    // overlay final pkgs
    // {
      callPackage = file: given: pkgs.callPackage file given;
    };
in
map (name: final.${name}.drvPath) (builtins.attrNames (overlay final pkgs))
