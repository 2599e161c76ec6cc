//! What `nix build` leaves: its last words, and files.

use std::path::{Path, PathBuf};

/// The last lines of what Nix said.
pub fn end_of(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The files in a directory whose names have one of these endings.
pub fn files(dir: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let ends = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| endings.contains(&extension))
    };
    entries.map(|entry| entry.path()).filter(ends).collect()
}
