# nix-instantiate --eval testing/nix/refusals --argstr name NAME: has to fail.
{ name }:
let
  nixpkgs = (import ../nixpkgs/flake.nix).outputs { };
  system = nixpkgs.lib.nixosSystem {
    modules = [
      ((import ../disko/flake.nix).outputs { }).nixosModules.disko
      ((import ../impermanence/flake.nix).outputs { }).nixosModules.impermanence
      { nixpkgs.hostPlatform = "x86_64-linux"; }
    ]
    ++ nixpkgs.lib.optional (name != "") (./. + "/${name}.nix");
  };
in
system.config.system.build.toplevel.drvPath
