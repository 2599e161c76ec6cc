# What the Rust workspace is built from: nothing else makes it build again.
{ lib }:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../.cargo
    ../Cargo.lock
    ../Cargo.toml
    ../crates
    # Tests hold the modules to these.
    ../docs/moving-over.md
    ../docs/privileges.md
    ../examples/nixos-config/facts
    ../testing/module-lab
    ../testing/pve-testhost
    ../testing/seed-init
  ];
}
