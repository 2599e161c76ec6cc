//! What is generated from the modules' types: `library/NAME.yml`, the sidecar that `ansible-doc`
//! reads beside a module's binary, `docs/reference/`, and the options of the role and of the inventory plugin.

use std::fs;

use anyhow::{Context, bail};

use crate::modules::all;
use crate::{errors, plugin, reference, results, role, root};

/// All files: path below the project's root, and text.
fn files() -> anyhow::Result<Vec<(String, String)>> {
    let mut files = reference::files()?;
    files.extend(results::files()?);
    files.push(errors::file()?);
    files.push((role::PATH.to_owned(), role::text()?));
    files.push((plugin::PATH.to_owned(), plugin::text()?));
    for module in all() {
        files.push((format!("library/{}.yml", module.name), (module.docs)()?));
    }
    Ok(files)
}

fn differs(path: &str, text: &str) -> bool {
    fs::read_to_string(root().join(path)).ok().as_deref() != Some(text)
}

/// Write all files that differ.
pub fn write() -> anyhow::Result<()> {
    for (path, text) in files()? {
        if differs(&path, &text) {
            let file = root().join(&path);
            fs::create_dir_all(file.parent().context("a file in no directory")?)?;
            fs::write(file, text).with_context(|| format!("writing {path}"))?;
            println!("{path}");
        }
    }
    Ok(())
}

/// Fail when a file is not what the types say.
pub fn check() -> anyhow::Result<()> {
    let mut different = files()?;
    different.retain(|(path, text)| differs(path, text));
    if !different.is_empty() {
        let paths: Vec<&str> = different.iter().map(|(path, _)| path.as_str()).collect();
        bail!(
            "{} not as the types say: run `cargo xtask docs`",
            paths.join(", ")
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
