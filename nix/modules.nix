# The Ansible modules, each with its documentation beside it.
{
  lib,
  openssl,
  pkg-config,
  rustPlatform,
  version,
  # For a musl target: one file each, which runs on any Linux.
  static ? false,
}:
let
  # Those with documentation.
  names = map (lib.removeSuffix ".yml") (
    lib.filter (lib.hasSuffix ".yml") (lib.attrNames (builtins.readDir ../library))
  );
in
rustPlatform.buildRustPackage {
  pname = "nixos-proxmox-modules";
  inherit version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;

  # For libssh2.
  nativeBuildInputs = [ pkg-config ];
  buildInputs = [ (if static then openssl.override { static = true; } else openssl) ];
  # nixpkgs' Rust links musl dynamically unless it is told otherwise, and openssl-sys prefers a shared library.
  env = lib.optionalAttrs static {
    OPENSSL_STATIC = "1";
    RUSTFLAGS = "-C target-feature=+crt-static";
  };

  buildType = "dist";
  cargoBuildFlags = lib.concatMap (name: [
    "--package"
    name
  ]) names;
  # checks.<system>.rust runs the tests.
  doCheck = false;

  # Ansible looks for modules in a directory that holds nothing else.
  postInstall = ''
    mkdir -p $out/share/ansible
    mv $out/bin $out/share/ansible/library
    cp ${
      lib.concatMapStringsSep " " (name: "${../library}/${name}.yml") names
    } $out/share/ansible/library/
  '';

  meta = {
    description = "Ansible modules that provision NixOS machines on Proxmox VE";
    homepage = "https://github.com/nixos-proxmox/nixos-proxmox";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    platforms = lib.platforms.linux;
  };
}
