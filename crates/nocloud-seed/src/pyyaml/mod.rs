//! A YAML text as cloud-init reads it: with PyYAML's `safe_load`, which is YAML 1.1.
//!
//! What PyYAML refuses, cloud-init drops as a whole, with no more than a warning in the guest's log. And what YAML 1.1
//! takes for another value than YAML 1.2 does (a MAC address of digits is a number to the base 60) is not what was meant.
//! Both are refused here by line. No message quotes more of the text than a plain key.

mod build;
mod check;
mod node;
mod scalar;
mod tag;

use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde::de::IgnoredAny;
use serde_json::Value;

use build::{Builder, DEEPEST};
pub(crate) use check::SPELLINGS;
use check::check;
use node::{Data, fault};
pub(crate) use node::{Fault, Node};

/// How many lines that YAML 1.2 wants to be indented are indented for its parser.
const MOST_INDENTED: usize = 2000;

/// Reads a text, or nothing if it is empty.
pub(crate) fn read(text: &str) -> Result<Option<Rc<Node>>, Fault> {
    printable(text)?;
    // libyaml's grammar is PyYAML's.
    if let Err(error) = serde_yaml_ng::from_str::<IgnoredAny>(text)
        && let Some(at) = error.location()
    {
        let reason = Parser::new_from_str(text)
            .find_map(Result::err)
            .map(|error| (error.marker().line(), error.info().to_owned()));
        let (line, reason) = match reason {
            Some((line, info)) => (line, info),
            // libyaml's words do not quote the text.
            None => {
                let words = error.to_string();
                let words = words.split(" at line ").next().unwrap_or_default();
                (at.line(), words.to_owned())
            }
        };
        return fault(
            line,
            format!("not valid YAML: {reason}{}", hint(text, line)),
        );
    }
    let indented = indented(text);
    let text = indented.as_deref().unwrap_or(text);
    let mut builder = Builder::default();
    let mut spans = Vec::new();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if let Event::Scalar(_, style, ..) = &event
                    && *style != ScalarStyle::Plain
                {
                    let quoted =
                        matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
                    spans.push((span.start.index(), span.end.index(), quoted));
                }
                builder.event(event, span)?;
            }
            // Of what YAML 1.2 would refuse, but 1.1 takes, no more is known than what libyaml read.
            Err(error) => return other_grammar(text, error.marker().line()),
        }
    }
    tabs(text, &spans)?;
    let Some(root) = builder.documents.pop() else {
        return Ok(None);
    };
    if let Some(first) = builder.documents.first() {
        return fault(
            root.line.max(first.line),
            "a second YAML document begins (after ---); cloud-init reads one document only",
        );
    }
    check(&root, None)?;
    match &root.data {
        Data::Scalar(Value::Null) => Ok(None),
        _ => Ok(Some(root)),
    }
}

/// The text with those lines indented that YAML 1.1 lets begin anywhere, since they go on with what is within brackets or
/// quotation marks, where blanks at the beginning mean nothing. Nothing if there is no such line.
fn indented(text: &str) -> Option<String> {
    let mut lines: Option<Vec<String>> = None;
    let mut last = 0;
    for _ in 0..MOST_INDENTED {
        let joined = lines.as_ref().map(|lines| lines.concat());
        let error = Parser::new_from_str(joined.as_deref().unwrap_or(text)).find_map(Result::err);
        let Some(error) = error.filter(|error| error.info().starts_with("invalid indentation"))
        else {
            return joined;
        };
        // Of a quoted scalar the first line is named, not the one that is to be indented.
        let line = match error.info().contains("quoted") {
            true => last.max(error.marker().line()) + 1,
            false => error.marker().line(),
        };
        let lines =
            lines.get_or_insert_with(|| text.split_inclusive('\n').map(str::to_owned).collect());
        let at = lines.get_mut(line - 1).filter(|_| line > last)?;
        at.insert_str(0, &" ".repeat(DEEPEST));
        last = line;
    }
    None
}

/// What is left to look at in another text that only YAML 1.1's grammar takes.
fn other_grammar(text: &str, line: usize) -> Result<Option<Rc<Node>>, Fault> {
    let at = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let separates = |(index, _): (usize, &str)| {
        at[..index].ends_with([':', '-', ',', '{', '[', '?']) || at[..index].trim().is_empty()
    };
    if at.match_indices('\t').any(separates) && !at.trim_start().starts_with('#') {
        return fault(line, TAB);
    }
    let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).unwrap_or_default();
    // Keys that are no texts are all that JSON does not hold.
    Ok(serde_json::to_value(&value)
        .ok()
        .map(|json| Rc::new(Node::plain(&json))))
}

/// PyYAML refuses a text with other characters anywhere (`Reader.NON_PRINTABLE`).
fn printable(text: &str) -> Result<(), Fault> {
    let is_printable = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 && line.starts_with('\u{feff}') {
            return fault(
                number + 1,
                "begins with a byte order mark, which would be a part of the key; save the file as UTF-8 without one",
            );
        }
        if let Some(c) = line.chars().find(|c| !is_printable(*c)) {
            return fault(
                number + 1,
                format!(
                    "the control character U+{:04X} is not allowed in YAML",
                    u32::from(c)
                ),
            );
        }
    }
    Ok(())
}

/// The most common reasons: braces, addresses in lists, commands with brackets, and what begins with a sign.
fn hint(text: &str, line: usize) -> &'static str {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    if line.contains("{{") || line.contains("{%") {
        "; a value with braces must be quoted, and a template for the guest begins with `## template: jinja`"
    } else if line.contains(['"', '\'', '[', ']', '@', '%', '&', '*', '`', '\\'])
        && !line.contains('\t')
    {
        "; quote the whole value, with single quotation marks if it has a \\ or double ones"
    } else {
        ""
    }
}

const TAB: &str = "a tab outside of quotation marks is not allowed; use blanks";

/// PyYAML skips blanks between its tokens, but no tabs (`scan_to_next_token`).
fn tabs(text: &str, scalars: &[(usize, usize, bool)]) -> Result<(), Fault> {
    let (mut line, mut comment, mut before) = (1, false, '\n');
    if !text.contains('\t') {
        return Ok(());
    }
    let chars: Vec<char> = text.chars().collect();
    // A quoted scalar's span goes on over what is behind it.
    let trimmed = |&(start, end, quoted): &(usize, usize, bool)| {
        let end = end.min(chars.len());
        (
            start,
            if quoted {
                after_quote(&chars, start).min(end)
            } else {
                end
            },
        )
    };
    let mut scalars = scalars.iter().map(trimmed).peekable();
    for (index, &c) in chars.iter().enumerate() {
        while scalars.next_if(|(_, end)| *end <= index).is_some() {}
        let inside = scalars.peek().is_some_and(|(start, _)| *start <= index);
        match c {
            '\n' => (line, comment) = (line + 1, false),
            '#' if !inside && before.is_ascii_whitespace() => comment = true,
            '\t' if !inside && !comment => {
                return fault(line, TAB);
            }
            _ => {}
        }
        before = c;
    }
    Ok(())
}

/// Where a quoted scalar that starts here is over.
fn after_quote(chars: &[char], start: usize) -> usize {
    let quote = chars.get(start).copied().unwrap_or_default();
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' if quote == '"' => at += 1,
            c if c == quote && quote == '\'' && chars.get(at + 1) == Some(&quote) => at += 1,
            c if c == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests;
