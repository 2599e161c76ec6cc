//! Turn a page of `docs/` into a page of the site: links, anchors and diagrams, which a git host handles by itself.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

use crate::root;

/// The page in `directory` of `docs/` for the site:
/// - a link that leaves `docs/` leads to the repository on its git host,
/// - a Mermaid diagram is what `svg` makes of it,
/// - the name of an option or result links to its own anchor, so that its address can be copied.
///
/// # Errors
/// A link to a file that does not exist, and what `svg` refuses.
pub fn for_site(
    text: &str,
    directory: &Path,
    svg: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut made = String::new();
    let mut lines = text.lines();
    let mut in_code = false;
    while let Some(line) = lines.next() {
        let fence = line.trim_start().starts_with("```");
        if line == "```mermaid" {
            let diagram: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            made += &svg(&diagram.join("\n"))?;
        } else if fence || in_code {
            in_code ^= fence;
            made += line;
        } else {
            made += &links(&self_linked(line), directory)?;
        }
        made.push('\n');
    }
    Ok(made)
}

/// A row of a table whose anchored name is a link to itself.
fn self_linked(line: &str) -> String {
    let parts = || {
        let (id, rest) = line.strip_prefix("| <a id=\"")?.split_once("\"></a>`")?;
        let (name, rest) = rest.split_once('`')?;
        Some(format!(
            "| <a class=\"name\" id=\"{id}\" href=\"#{id}\">`{name}`</a>{rest}"
        ))
    };
    parts().unwrap_or_else(|| line.to_owned())
}

fn links(line: &str, directory: &Path) -> anyhow::Result<String> {
    let mut made = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("](") {
        let (before, after) = rest.split_at(at + 2);
        made += before;
        let end = after.find(')').unwrap_or(after.len());
        made += &target(&after[..end], directory)?;
        rest = &after[end..];
    }
    Ok(made + rest)
}

/// Where a link of a page in `directory` leads on the site.
fn target(link: &str, directory: &Path) -> anyhow::Result<String> {
    let (path, fragment) = link.find('#').map_or((link, ""), |at| link.split_at(at));
    if path.is_empty() || path.contains(':') {
        return Ok(link.to_owned());
    }
    let below_root = normal(&Path::new("docs").join(directory).join(path))
        .with_context(|| format!("{link}: leads out of the repository"))?;
    let file = root().join(&below_root);
    if !file.exists() {
        bail!("{link}: does not exist");
    }
    if below_root.starts_with("docs") {
        return Ok(link.to_owned());
    }
    let kind = if file.is_dir() { "tree" } else { "blob" };
    let repository = env!("CARGO_PKG_REPOSITORY");
    Ok(format!(
        "{repository}/{kind}/HEAD/{}{fragment}",
        below_root.display()
    ))
}

/// The path without `.` and `..`; none if it leads above its start.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut made = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => made.push(name),
            Component::ParentDir => made.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str, directory: &str) -> anyhow::Result<String> {
        for_site(text, Path::new(directory), |diagram| {
            Ok(format!("<svg>{diagram}</svg>"))
        })
    }

    #[test]
    fn links_out_of_docs_lead_to_the_repository() {
        let repository = "https://github.com/nixos-proxmox/nixos-proxmox";
        for (directory, text, expected) in [
            (
                "",
                "[a](../crates) b",
                format!("[a]({repository}/tree/HEAD/crates) b"),
            ),
            (
                "reference",
                "[a](../../Cargo.toml#x), [b](https://nixos.org)",
                format!("[a]({repository}/blob/HEAD/Cargo.toml#x), [b](https://nixos.org)"),
            ),
            (
                "",
                "[a](privileges.md#roles) [b](#b)",
                "[a](privileges.md#roles) [b](#b)".into(),
            ),
            (
                "reference",
                "[a](../privileges.md)",
                "[a](../privileges.md)".into(),
            ),
            (
                "",
                "```\n[a](../crates)\n```",
                "```\n[a](../crates)\n```".into(),
            ),
        ] {
            assert_eq!(site(text, directory).unwrap(), expected + "\n");
        }
    }

    #[test]
    fn links_to_nothing_are_refused() {
        for (text, expected) in [
            ("[a](missing.md)", "missing.md: does not exist"),
            ("[a](../../etc)", "../../etc: leads out of the repository"),
        ] {
            assert_eq!(site(text, "").unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn diagrams_are_drawn_and_names_link_to_themselves() {
        let text = "```mermaid\na\nb\n```\n| <a id=\"option-x.y\"></a>`x.y` | str |\n| `z` |";
        let expected = "<svg>a\nb</svg>\n\
                        | <a class=\"name\" id=\"option-x.y\" href=\"#option-x.y\">`x.y`</a> | str |\n| `z` |\n";
        assert_eq!(site(text, "").unwrap(), expected);
    }
}
