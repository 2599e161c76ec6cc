//! Command lines of `nix`, and its settings.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use crate::options::Options;
use crate::values::host::destination;
use crate::values::{flake, nix_options};

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

/// The arguments of `nix` that print what an installable evaluates to, which is text.
pub(crate) fn eval(installable: &str, options: &Options) -> Vec<OsString> {
    evaluating(&["eval", "--raw"], &[installable.to_owned()], options)
}

/// The arguments of `nix` that print every path in the closure of `path` with its size.
pub(crate) fn closure(path: &Path, options: &Options) -> Vec<OsString> {
    let mut arguments = command(&["path-info", "--recursive", "--size"], &[], options);
    arguments.push(path.into());
    arguments
}

/// The arguments of `nix` that copy the closure of `path` to the machine, by SSH.
pub(crate) fn copy(path: &Path, options: &Options) -> Vec<OsString> {
    let host = destination(options.host());
    let mut arguments = command(&["copy"], &[], options);
    // What was built here has no signature. Without the flag even root is refused by ssh-ng (NixOS/nix#7812).
    arguments.push("--no-check-sigs".into());
    arguments.push("--to".into());
    arguments.push(format!("ssh-ng://{}@{host}", options.user).into());
    if options.substitute_on_destination {
        arguments.push("--substitute-on-destination".into());
    }
    arguments.push(path.into());
    arguments
}

/// The value of `NIX_SSHOPTS`, which Nix splits at blanks: port and login key.
pub(crate) fn ssh_options(options: &Options, key: Option<&Path>) -> OsString {
    let mut text = OsString::from(format!("-p {}", options.port));
    if let Some(key) = key {
        text.push(" -o IdentitiesOnly=yes -i ");
        text.push(key);
    }
    text
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
    for (name, uri) in overridden(options) {
        arguments.extend(["--override-input", &name, &uri].map(OsString::from));
    }
    if options.show_trace {
        arguments.push("--show-trace".into());
    }
    arguments.extend(installables.iter().map(OsString::from));
    arguments
}

/// The inputs that are replaced, each with its place as Nix takes it.
pub(crate) fn overridden(options: &Options) -> Vec<(String, String)> {
    let inputs = options.override_inputs.iter();
    inputs
        .map(|(name, uri)| (name.clone(), flake::input_uri(uri).unwrap_or(uri.clone())))
        .collect()
}

/// For commands that read a flake, which leave its lock file alone. Others do not know the flag.
const LOCKED: [&str; 1] = ["--no-write-lock-file"];

/// A command of `nix` with what every call takes: flakes, and the user's settings after `flags`.
fn command(words: &[&str], flags: &[&str], options: &Options) -> Vec<OsString> {
    let features = ["--extra-experimental-features", "nix-command flakes"];
    let fixed = words.iter().chain(&features).chain(flags);
    let mut arguments: Vec<OsString> = fixed.map(OsString::from).collect();
    for (name, value) in nix_options::for_command_line(options) {
        arguments.extend(["--option", name, &value].map(OsString::from));
    }
    arguments
}

/// The value of `NIX_CONFIG`: what the user has there, then `connect_timeout` and the settings of the task, since the last
/// one counts. None to leave it alone.
pub(crate) fn config(options: &Options, connect_timeout: Option<u64>) -> Option<OsString> {
    let timeout = connect_timeout.map(|seconds| ("connect-timeout", seconds.to_string()));
    let mut settings = timeout
        .into_iter()
        .chain(nix_options::for_nix_config(options))
        .peekable();
    settings.peek()?;
    let mut text = env::var_os("NIX_CONFIG").unwrap_or_default();
    text.push("\n");
    for (name, value) in settings {
        text.push(format!("{name} = {value}\n"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::from_json as options;

    #[test]
    fn inputs_are_replaced_where_a_flake_is_evaluated() {
        let some = options(json!({"override_inputs": {"machines": "git+file:///my infra"}}));
        let installables = ["x#a".to_owned()];
        for words in [build(&installables, &some), evaluate(&installables, &some)] {
            let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
            let at = words
                .iter()
                .position(|word| *word == "--override-input")
                .unwrap();
            assert_eq!(
                words[at + 1..at + 3],
                ["machines", "git+file:///my%20infra"]
            );
        }
        assert!(!settings(&some).contains(&"--override-input".into()));
    }

    #[test]
    fn settings_are_in_the_environment_unless_nix_conf_would_cut_them() {
        let some = options(json!({"nix_options": {
            "access-tokens": ["github.com=ghp_1"], "cores": 2, "bash-prompt": "# ", "substituters": [],
        }}));
        let text = config(&some, Some(5)).unwrap().into_string().unwrap();
        let own =
            "\nconnect-timeout = 5\naccess-tokens = github.com=ghp_1\ncores = 2\nsubstituters = \n";
        assert!(text.ends_with(own), "{text}");
        let words = settings(&some);
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words[words.len() - 3..], ["--option", "bash-prompt", "# "]);
        assert!(!words.join(" ").contains("ghp_1"), "{words:?}");
        assert_eq!(config(&options(json!({})), None), None);
    }
}
