//! The built site: each link leads to a file of it, each fragment to an element, and nothing is loaded from another host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use html5gum::{Token, Tokenizer};
use percent_encoding::percent_decode_str;

/// What a page has.
#[derive(Default)]
struct Page {
    ids: BTreeSet<String>,
    /// IDs that two elements have.
    twice: Vec<String>,
    links: Vec<String>,
    /// Scripts, style sheets, images.
    parts: Vec<String>,
}

/// Check all pages below `site`; returns their number.
///
/// # Errors
/// All that is wrong, a line each.
pub fn check(site: &Path) -> anyhow::Result<usize> {
    let mut pages = BTreeMap::new();
    let mut files = BTreeSet::new();
    for file in super::files(site)? {
        let name = file.strip_prefix(site)?.to_owned();
        if name
            .extension()
            .is_some_and(|extension| extension == "html")
        {
            let html =
                fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            pages.insert(name.clone(), read(&html));
        }
        files.insert(name);
    }
    let mut wrong = Vec::new();
    for (name, page) in &pages {
        let mut say =
            |what: &str, why: &str| wrong.push(format!("{}: {what}: {why}", name.display()));
        for id in &page.twice {
            say(id, "two elements have this id");
        }
        let elsewhere = |part: &&String| is_elsewhere(part) && !part.starts_with("data:");
        for part in page.parts.iter().filter(elsewhere) {
            say(part, "is loaded from another host");
        }
        for link in page
            .links
            .iter()
            .chain(&page.parts)
            .filter(|link| !is_elsewhere(link))
        {
            let (path, fragment) = resolve(name, link);
            match (pages.get(&path), fragment) {
                _ if !files.contains(&path) => say(link, "does not exist"),
                (Some(page), Some(id)) if !page.ids.contains(&id) => {
                    say(link, "the page does not have this anchor")
                }
                _ => {}
            }
        }
    }
    ensure!(!pages.is_empty(), "{}: no pages", site.display());
    ensure!(wrong.is_empty(), "the site is wrong:\n{}", wrong.join("\n"));
    Ok(pages.len())
}

/// Whether the link does not lead to a file of the site.
fn is_elsewhere(link: &str) -> bool {
    ["https:", "http:", "//", "mailto:", "data:"]
        .iter()
        .any(|start| link.starts_with(start))
}

fn read(html: &str) -> Page {
    let mut page = Page::default();
    for Ok(token) in Tokenizer::new(html) {
        let Token::StartTag(tag) = token else {
            continue;
        };
        let attribute = |name: &str| {
            let value = tag.attributes.get(name.as_bytes())?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        if let Some(id) = attribute("id")
            && !page.ids.insert(id.clone())
        {
            page.twice.push(id);
        }
        let is_link = tag.name == b"a";
        let links = if is_link {
            &mut page.links
        } else {
            &mut page.parts
        };
        links.extend(attribute("href"));
        links.extend(attribute("src"));
    }
    page
}

/// The file that a link on the page `name` leads to, and the fragment.
fn resolve(name: &Path, link: &str) -> (PathBuf, Option<String>) {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (path, fragment) = link
        .split_once('#')
        .map_or((link, None), |(path, id)| (path, Some(id)));
    let path = decoded(path.split('?').next().unwrap_or_default());
    let mut file = match path.strip_prefix('/') {
        Some(_) => PathBuf::new(),
        None if path.is_empty() => name.to_owned(),
        None => name.parent().unwrap_or(Path::new("")).to_owned(),
    };
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part != ".." {
            file.push(part);
        } else if !file.pop() {
            // Out of the site.
            return (PathBuf::from(link), None);
        }
    }
    if path.ends_with('/') || file.as_os_str().is_empty() {
        file.push("index.html");
    }
    (file, fragment.filter(|id| !id.is_empty()).map(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_listed() {
        let site = tempfile::tempdir().unwrap();
        let write = |name: &str, html: &str| fs::write(site.path().join(name), html).unwrap();
        fs::create_dir(site.path().join("sub")).unwrap();
        write("a.css", "");
        write(
            "index.html",
            r##"<link href="a.css"><a href="sub/b.html#x%20y">b</a> <a href="#here" id="here">c</a> <a href="https://nixos.org/#x">d</a>"##,
        );
        write(
            "sub/b.html",
            r#"<p id="x y"><a href="../">up</a><a href="/">top</a></p>"#,
        );
        assert_eq!(check(site.path()).unwrap(), 2);
        write(
            "sub/b.html",
            r##"<p id=z><p id=z><a href="#x"></a><a href="../../etc">e</a><img src=c.png><script src="//cdn/x.js"></script>"##,
        );
        let expected = "the site is wrong:\n\
             index.html: sub/b.html#x%20y: the page does not have this anchor\n\
             sub/b.html: z: two elements have this id\n\
             sub/b.html: //cdn/x.js: is loaded from another host\n\
             sub/b.html: #x: the page does not have this anchor\n\
             sub/b.html: ../../etc: does not exist\n\
             sub/b.html: c.png: does not exist";
        assert_eq!(check(site.path()).unwrap_err().to_string(), expected);
    }
}
