//! Find the programs that an installation needs.

use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ansible_module::Failure;

use super::nix;
use crate::error::Error;
use crate::options::Options;

/// The programs of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tools {
    pub(crate) nix: PathBuf,
    /// The program that is or runs nixos-anywhere, and what comes before nixos-anywhere's arguments.
    pub(crate) nixos_anywhere: (PathBuf, Vec<OsString>),
}

impl Tools {
    /// The programs that are missing, those too that nixos-anywhere calls: each as a failure whose
    /// object is the option that may name it.
    pub(crate) fn missing(options: &Options, directories: &[PathBuf]) -> Vec<Failure> {
        let others = ["ssh", "ssh-copy-id", "ssh-keygen"];
        let others = others.map(|program| find(Path::new(program), directories).err());
        let missing = others.into_iter().flatten();
        missing
            .chain(Self::find(options, directories).err())
            .map(Failure::from)
            .map(|failure| match failure.object {
                None => failure.object("tools_path"),
                Some(_) => failure,
            })
            .collect()
    }

    /// Find nix, where nixos-anywhere is not needed.
    ///
    /// # Errors
    /// Kind `tool_missing`.
    pub(crate) fn nix_alone(directories: &[PathBuf]) -> Result<Self, Error> {
        let nix = find(Path::new("nix"), directories)?;
        Ok(Self {
            nixos_anywhere: (nix.clone(), Vec::new()),
            nix,
        })
    }

    /// Find nix and nixos-anywhere.
    ///
    /// # Errors
    /// Kind `tool_missing`.
    pub(crate) fn find(options: &Options, directories: &[PathBuf]) -> Result<Self, Error> {
        let nix = find(Path::new("nix"), directories)?;
        let nixos_anywhere = match find(&options.nixos_anywhere, directories) {
            Ok(program) => (program, Vec::new()),
            Err(_)
                if options.nixos_anywhere == Path::new("nixos-anywhere")
                    && !options.nixos_anywhere_flake.is_empty() =>
            {
                (nix.clone(), nix::run(options))
            }
            Err(_) => {
                return Err(Error::ToolMissing {
                    program: options.nixos_anywhere.clone(),
                    option: Some("nixos_anywhere"),
                    directories: directories.to_vec(),
                });
            }
        };
        Ok(Self {
            nix,
            nixos_anywhere,
        })
    }
}

/// The directories to look in, `first` (the option tools_path) before those of PATH.
pub(crate) fn directories(first: Option<&Path>) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    first
        .map(Path::to_owned)
        .into_iter()
        .chain(env::split_paths(&path))
        // An empty entry means the current directory, where nobody expects a program.
        .filter(|directory| directory.is_absolute())
        .collect()
}

/// A value for PATH, with `first` (the option tools_path) before what is in it already.
pub fn search_path(first: Option<&Path>) -> OsString {
    joined(&directories(first))
}

/// A value for PATH.
pub(crate) fn joined(directories: &[PathBuf]) -> OsString {
    env::join_paths(directories).unwrap_or_default()
}

/// The absolute path of `program`: looked up, unless it is a path itself.
///
/// # Errors
/// Names what was looked for and where.
pub(crate) fn find(program: &Path, directories: &[PathBuf]) -> Result<PathBuf, Error> {
    let found = if program.components().count() > 1 {
        std::path::absolute(program)
            .ok()
            .filter(|path| executable(path))
    } else {
        directories
            .iter()
            .map(|directory| directory.join(program))
            .find(|path| executable(path))
    };
    found.ok_or_else(|| Error::ToolMissing {
        program: program.to_owned(),
        option: None,
        directories: directories.to_vec(),
    })
}

/// The oldest Nix that nixos-anywhere works with (`nix config show`).
pub(crate) const OLDEST_NIX: (u32, u32) = (2, 20);

/// How long a program may take to print its version. One that does not is not judged by it.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The version of this `nix`, if it prints one.
pub(crate) fn nix_version(nix: &Path) -> Option<(u32, u32)> {
    let mut child = Command::new(nix)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let since = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if since.elapsed() > VERSION_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    child.stdout?.take(4096).read_to_string(&mut text).ok()?;
    version(&text)
}

/// The version in `nix (Nix) 2.28.3`, or as Lix and Determinate Nix print theirs.
fn version(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().find(|line| line.starts_with("nix ("))?;
    let mut numbers = line.split_whitespace().last()?.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor: String = numbers
        .next()?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some((major, minor.parse().ok()?))
}

fn executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        let directories = directories(Some(Path::new("/bin")));
        assert_eq!(
            find(Path::new("sh"), &directories).unwrap(),
            Path::new("/bin/sh")
        );
        assert_eq!(
            find(Path::new("/bin/sh"), &[]).unwrap(),
            Path::new("/bin/sh")
        );
    }

    #[test]
    fn versions_are_read_as_they_are_printed() {
        for (text, expected) in [
            ("nix (Nix) 2.8.0\n", Some((2, 8))),
            ("nix (Nix) 2.34.8", Some((2, 34))),
            ("nix (Nix) 2.26pre20250101_abc", Some((2, 26))),
            ("nix (Lix, like Nix) 2.91.0", Some((2, 91))),
            ("nix (Determinate Nix 3.6.2) 2.29.0", Some((2, 29))),
            ("warning: x\nnix (Nix) 2.20.1", Some((2, 20))),
            ("a stand-in", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_a_way_out() {
        let error = find(Path::new("nixos-anywhere"), &["/nowhere".into()]).unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.msg, "the program nixos-anywhere was not found");
        assert_eq!(failure.detail.as_deref(), Some("looked in /nowhere"));
        assert!(failure.hint.unwrap().contains("tools_path"));
    }
}
