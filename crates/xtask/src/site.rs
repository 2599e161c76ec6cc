//! `cargo xtask site`: `docs/` as a web site in `target/site`, made by mdBook. Nothing on it comes from another host, and it needs no
//! server.

mod check;
mod diagram;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::root;

/// What belongs beside the pages' directory, not into it.
const SETTINGS: [&str; 2] = ["book.toml", "site.css"];

/// Build the site and check its links.
pub fn build() -> anyhow::Result<()> {
    let mdbook = root().join(".programs/bin/mdbook");
    ensure!(
        mdbook.exists(),
        "{}: does not exist; run `scripts/setup.sh site`",
        mdbook.display()
    );
    let (book, site) = (
        root().join("target/site-source"),
        root().join("target/site"),
    );
    for made in [&book, &site] {
        if made.exists() {
            fs::remove_dir_all(made).with_context(|| format!("removing {}", made.display()))?;
        }
    }
    stage(&root().join("docs"), &book)?;
    let status = Command::new(&mdbook)
        .args(["build", "--dest-dir"])
        .args([&site, &book])
        .env(
            "MDBOOK_OUTPUT__HTML__GIT_REPOSITORY_URL",
            env!("CARGO_PKG_REPOSITORY"),
        )
        .status()
        .with_context(|| format!("starting {}", mdbook.display()))?;
    ensure!(status.success(), "mdbook failed: {status}");
    let pages = check::check(&site)?;
    println!(
        "{}: {pages} pages; all links and anchors exist",
        site.join("index.html").display()
    );
    Ok(())
}

/// Lay `docs` out as mdBook wants a book: the settings in `book`, and all else in `book/src`, pages with their links and diagrams
/// as the site has them.
fn stage(docs: &Path, book: &Path) -> anyhow::Result<()> {
    for file in files(docs)? {
        let name = file.strip_prefix(docs)?;
        let target = if SETTINGS.iter().any(|setting| name == Path::new(setting)) {
            book.join(name)
        } else {
            book.join("src").join(name)
        };
        let read = || format!("reading {}", file.display());
        let content = if name.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&file).with_context(read)?;
            let directory = name.parent().unwrap_or(Path::new(""));
            let page = page::for_site(&text, directory, diagram::svg);
            page.with_context(|| file.display().to_string())?
                .into_bytes()
        } else {
            fs::read(&file).with_context(read)?
        };
        let write = || format!("writing {}", target.display());
        fs::create_dir_all(target.parent().context("a file in no directory")?)
            .with_context(write)?;
        fs::write(&target, content).with_context(write)?;
    }
    Ok(())
}

/// All files below a directory, sorted.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
