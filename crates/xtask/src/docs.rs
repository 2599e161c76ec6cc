//! `library/NAME.yml`, the sidecar that `ansible-doc` reads beside a module's binary.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::modules::{Entry, all};
use crate::root;

fn path(module: &Entry) -> PathBuf {
    root().join("library").join(format!("{}.yml", module.name))
}

/// Write all files that differ.
pub fn write() -> anyhow::Result<()> {
    fs::create_dir_all(root().join("library"))?;
    for module in all() {
        let text = (module.docs)()?;
        let path = path(&module);
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            println!("library/{}.yml", module.name);
        }
    }
    Ok(())
}

/// Fail when a file is not what the types say.
pub fn check() -> anyhow::Result<()> {
    let mut different = Vec::new();
    for module in all() {
        let text = (module.docs)()?;
        if fs::read_to_string(path(&module)).ok().as_deref() != Some(&text) {
            different.push(format!("library/{}.yml", module.name));
        }
    }
    if !different.is_empty() {
        bail!(
            "{} not as the types say: run `cargo xtask docs`",
            different.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tracked_documentation_is_that_of_the_types() {
        super::check().unwrap();
    }
}
