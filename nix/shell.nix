# `nix develop`: what the repository is worked on with, and the modules as built by Nix.
{ pkgs, self }:
let
  inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) modules;
in
pkgs.mkShell {
  packages = [
    # The play.
    pkgs.ansible
    pkgs.nixos-anywhere
    pkgs.openssh
    # Its tests.
    pkgs.ansible-lint
    pkgs.molecule
    pkgs.python3Packages.pytest
    pkgs.qemu
    pkgs.typos
    pkgs.yamllint
    # The modules.
    pkgs.cargo
    pkgs.clippy
    pkgs.gcc
    pkgs.openssl
    pkgs.pkg-config
    pkgs.rustc
    pkgs.rustfmt
    # The flake.
    pkgs.deadnix
    pkgs.nixfmt
  ];

  # Modules that `cargo xtask install` built come first, if they are there.
  shellHook = ''
    export ANSIBLE_LIBRARY="${modules}/share/ansible/library"
    if [ -d "$PWD/.programs" ]; then
      ANSIBLE_LIBRARY="$PWD/library:$ANSIBLE_LIBRARY"
    fi
  '';
}
