//! Diagrams: flowcharts in the language of Mermaid, which git hosts draw themselves, drawn by Graphviz for the site, so that its pages
//! need no script for them.
//!
//! What is known of Mermaid: `flowchart`, `accTitle`, `subgraph` and `end`, nodes as `id`, `id[text]`, `id([text])` and `id[(text)]`, arrows as
//! `-->`, `-- text -->`, `-.->` and `-. text .->`. All else is an error.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use html_escape::encode_double_quoted_attribute;
use regex_lite::Regex;

/// The diagram as HTML, without an empty line, which would end it within Markdown.
pub fn svg(mermaid: &str) -> anyhow::Result<String> {
    let Graph { title, dot } = translate(mermaid)?;
    let mut child = Command::new("dot")
        .arg("-Tsvg")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dot, of Graphviz; run `scripts/setup.sh site`")?;
    let mut stdin = child.stdin.take().context("dot has no input")?;
    stdin.write_all(dot.as_bytes()).context("writing to dot")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "dot failed: {}", output.status);
    let output = String::from_utf8(output.stdout)?;
    let start = output.find("<svg").context("dot drew nothing")?;
    // What is not shown, or not unique on a page with two diagrams.
    let unused = Regex::new(r#"(?s)<title>.*?</title>|<!--.*?-->| id="[^"]*""#)?;
    let drawn = unused.replace_all(&output[start..], "");
    let lines: Vec<&str> = drawn
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    Ok(format!(
        "<figure class=\"diagram\" role=\"img\" aria-label=\"{}\">\n{}\n</figure>",
        encode_double_quoted_attribute(&title),
        lines.join("\n")
    ))
}

#[derive(Debug)]
struct Graph {
    /// What it shows, for those who cannot see it.
    title: String,
    /// In Graphviz's language.
    dot: String,
}

const STYLE: &str = "graph [bgcolor=transparent fontname=Helvetica fontsize=11 nodesep=0.25 ranksep=0.25]\n\
    node [shape=box style=rounded fontname=Helvetica fontsize=11 height=0.4 margin=\"0.08,0.05\"]\n\
    edge [fontname=Helvetica fontsize=10 arrowsize=0.7]\n";

fn translate(mermaid: &str) -> anyhow::Result<Graph> {
    let (mut title, mut dot) = (None, String::new());
    let mut known = BTreeSet::new();
    let (mut open, mut clusters) = (0, 0);
    for line in mermaid
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let unknown = || format!("{line}: is not supported in diagrams of the site");
        if let Some(direction) = line.strip_prefix("flowchart ") {
            let _ = write!(dot, "digraph {{\nrankdir={direction}\n{STYLE}");
        } else if let Some(text) = line.strip_prefix("accTitle:") {
            title = Some(text.trim().to_owned());
        } else if let Some(rest) = line.strip_prefix("subgraph ") {
            let group = Node::read(rest).with_context(unknown)?.0;
            let label = quoted(group.text.unwrap_or(group.id));
            let _ = write!(
                dot,
                "subgraph cluster_{clusters} {{\nstyle=rounded\nlabel={label}\n"
            );
            open += 1;
            clusters += 1;
        } else if line == "end" {
            open -= 1;
            dot += "}\n";
        } else {
            chain(line, &mut known, &mut dot).with_context(unknown)?;
        }
    }
    ensure!(
        dot.starts_with("digraph") && open == 0,
        "the diagram is not a whole flowchart"
    );
    Ok(Graph {
        title: title.context("the diagram needs an accTitle, which says what it shows")?,
        dot: dot + "}\n",
    })
}

/// `a --> b -- text --> c`. A node is declared where it is named first, so that it is in its subgraph.
fn chain<'line>(
    line: &'line str,
    known: &mut BTreeSet<&'line str>,
    dot: &mut String,
) -> Option<()> {
    let arrow = Regex::new(r"^(?:-->|-- (.+?) -->|(-\.->)|-\. (.+?) \.->)\s*").ok()?;
    let mut declare = |node: &Node<'line>, dot: &mut String| {
        if known.insert(node.id) {
            let label = quoted(node.text.unwrap_or(node.id));
            let _ = writeln!(dot, "{} [label={label} shape={}]", node.id, node.shape);
        }
    };
    let (mut from, mut rest) = Node::read(line)?;
    declare(&from, dot);
    while !rest.is_empty() {
        let found = arrow.captures(rest)?;
        let (dashed, text) = (found.get(2).or(found.get(3)), found.get(1).or(found.get(3)));
        let (to, after) = Node::read(&rest[found.get(0)?.end()..])?;
        declare(&to, dot);
        let label = quoted(text.map_or("", |text| text.as_str()));
        let style = dashed.map_or("solid", |_| "dashed");
        let _ = writeln!(
            dot,
            "{} -> {} [label={label} style={style}]",
            from.id, to.id
        );
        (from, rest) = (to, after);
    }
    Some(())
}

struct Node<'line> {
    id: &'line str,
    text: Option<&'line str>,
    /// In Graphviz's words.
    shape: &'static str,
}

impl<'line> Node<'line> {
    /// The node that the line begins with, and what follows it.
    fn read(line: &'line str) -> Option<(Self, &'line str)> {
        let node =
            Regex::new(r"^(\w+)(?:\[\((.+?)\)\]|\(\[(.+?)\]\)|\[([^(].*?)\])?(?:\s+|$)").ok()?;
        let found = node.captures(line)?;
        let shapes = [(2, "cylinder"), (3, "oval"), (4, "box")];
        let shaped = shapes
            .into_iter()
            .find_map(|(group, shape)| Some((found.get(group)?, shape)));
        let (text, shape) =
            shaped.map_or((None, "box"), |(text, shape)| (Some(text.as_str()), shape));
        let id = found.get(1)?.as_str();
        Some((Self { id, text, shape }, &line[found.get(0)?.end()..]))
    }
}

/// A text of Mermaid as a string of Graphviz.
fn quoted(text: &str) -> String {
    let text = text.trim_matches('"').replace("<br/>", "\n");
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flowchart_is_translated() {
        let mermaid = "flowchart LR\n  accTitle: What it is\n  subgraph one[The first]\n    a[do<br/>it] -- then, so --> b[(store)]\n  end\n  \
                       c([end])\n  a -.-> b --> c -. \"no\" .-> a";
        let graph = translate(mermaid).unwrap();
        assert_eq!(graph.title, "What it is");
        let expected = format!(
            "digraph {{\nrankdir=LR\n{STYLE}\
             subgraph cluster_0 {{\nstyle=rounded\nlabel=\"The first\"\n\
             a [label=\"do\\nit\" shape=box]\nb [label=\"store\" shape=cylinder]\na -> b [label=\"then, so\" style=solid]\n}}\n\
             c [label=\"end\" shape=oval]\na -> b [label=\"\" style=dashed]\nb -> c [label=\"\" style=solid]\n\
             c -> a [label=\"no\" style=dashed]\n}}\n"
        );
        assert_eq!(graph.dot, expected);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (mermaid, expected) in [
            (
                "flowchart LR\naccTitle: x\na ==> b",
                "a ==> b: is not supported in diagrams of the site",
            ),
            (
                "flowchart LR\naccTitle: x\na{choice} --> b",
                "a{choice} --> b: is not supported in diagrams of the site",
            ),
            (
                "flowchart LR\na --> b",
                "the diagram needs an accTitle, which says what it shows",
            ),
            (
                "flowchart LR\nsubgraph a",
                "the diagram is not a whole flowchart",
            ),
            ("sequenceDiagram", "the diagram is not a whole flowchart"),
        ] {
            assert_eq!(translate(mermaid).unwrap_err().to_string(), expected);
        }
    }
}
