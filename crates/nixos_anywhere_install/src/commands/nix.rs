//! Command lines of `nix`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use crate::options::Options;
use crate::values::settings::{NIX, text};

/// The arguments of `nix` that run the nixos-anywhere of a flake, up to that one's own.
pub(crate) fn run(options: &Options) -> Vec<OsString> {
    let mut arguments = command(&["run"], &LOCKED, options);
    arguments.extend([options.nixos_anywhere_flake.as_str(), "--"].map(OsString::from));
    arguments
}

/// The arguments of `nix` to build installables, as nixos-anywhere builds them.
pub(crate) fn build(installables: &[String], options: &Options) -> Vec<OsString> {
    let build = [
        "build",
        "--print-out-paths",
        "--no-link",
        "--print-build-logs",
    ];
    evaluating(&build, installables, options)
}

/// The arguments of `nix` to evaluate installables, all in one process, and to ask no substituter.
pub(crate) fn evaluate(installables: &[String], options: &Options) -> Vec<OsString> {
    evaluating(&["path-info", "--derivation"], installables, options)
}

/// The arguments of `nix` that print its settings.
pub(crate) fn settings(options: &Options) -> Vec<OsString> {
    command(&["config", "show"], &[], options)
}

/// The arguments of `nix` that print each path with the size of its closure.
pub(crate) fn closure_sizes(paths: &[&Path], options: &Options) -> Vec<OsString> {
    let mut arguments = command(&["path-info", "--closure-size"], &[], options);
    arguments.extend(paths.iter().map(OsString::from));
    arguments
}

fn evaluating(words: &[&str], installables: &[String], options: &Options) -> Vec<OsString> {
    let mut arguments = command(words, &LOCKED, options);
    if options.show_trace {
        arguments.push("--show-trace".into());
    }
    arguments.extend(installables.iter().map(OsString::from));
    arguments
}

/// For commands that read a flake, which leave its lock file alone. Others do not know the flag.
const LOCKED: [&str; 1] = ["--no-write-lock-file"];

/// A command of `nix` with what every call takes: flakes, and the user's settings after `flags`.
fn command(words: &[&str], flags: &[&str], options: &Options) -> Vec<OsString> {
    let features = ["--extra-experimental-features", "nix-command flakes"];
    let fixed = words.iter().chain(&features).chain(flags);
    let mut arguments: Vec<OsString> = fixed.map(OsString::from).collect();
    for (name, value) in settings_as_text(&options.nix_options) {
        arguments.extend(["--option", name, &value].map(OsString::from));
    }
    arguments
}

/// Settings as `nix` takes them. One that has no text was refused before.
pub(crate) fn settings_as_text(
    settings: &BTreeMap<String, Value>,
) -> impl Iterator<Item = (&str, String)> {
    let as_text = |value| text(value, &NIX).unwrap_or_default();
    settings
        .iter()
        .map(move |(name, value)| (name.as_str(), as_text(value)))
}
