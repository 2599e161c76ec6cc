//! Nix and nixos-anywhere: finding them, their command lines, and running them.

pub(crate) mod caches;
pub(crate) mod child;
pub(crate) mod nix;
pub(crate) mod nixos_anywhere;
pub(crate) mod programs;
pub(crate) mod tools;
