//! A YAML text as cloud-init reads it: with PyYAML's `safe_load`, which is YAML 1.1.
//!
//! What PyYAML refuses, cloud-init drops as a whole, with no more than a warning in the guest's log. And what YAML 1.1
//! takes for another value than YAML 1.2 does (a MAC address of digits is a number to the base 60) is not what was meant.
//! Both are refused here by line. No message quotes more of the text than a plain key.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

use regex_lite::Regex;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use crate::mime;

/// How many values a text may be once its aliases are followed.
const MOST_VALUES: u64 = 100_000;
/// How deep it may be nested: PyYAML gives up at some 300.
const DEEPEST: usize = 100;
/// How many lines that YAML 1.2 wants to be indented are indented for its parser.
const MOST_INDENTED: usize = 2000;

/// Why a text is not what was meant, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub line: usize,
    pub problem: String,
}

fn fault<T>(line: usize, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault {
        line,
        problem: problem.into(),
    })
}

/// How a plain scalar is read in YAML 1.1 although it looks like something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    /// `yes`, `no`, `on`, `off` in any case.
    Word,
    /// A number with a leading zero, which is octal.
    Octal(u64),
    /// A number to the base 60, written with colons.
    Sixty,
    /// A number with underscores.
    Underscore,
    /// A fraction that ends in 0.
    Fraction,
    /// A day.
    Date,
    /// A day and a time.
    Time,
}

/// A value and the line it is on.
#[derive(Debug)]
pub(crate) struct Node {
    pub line: usize,
    data: Data,
    trap: Option<Trap>,
    /// How many values it is with everything in it.
    weight: u64,
}

#[derive(Debug)]
enum Data {
    Scalar(Value),
    List(Vec<Rc<Node>>),
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    /// A value whose lines are not known.
    fn plain(value: &Value) -> Self {
        let data = match value {
            Value::Array(items) => Data::List(
                items
                    .iter()
                    .map(|item| Rc::new(Self::plain(item)))
                    .collect(),
            ),
            Value::Object(map) => Data::Map(
                map.iter()
                    .map(|(key, value)| {
                        let key = Self::plain(&Value::from(key.as_str()));
                        (Rc::new(key), Rc::new(Self::plain(value)))
                    })
                    .collect(),
            ),
            scalar => Data::Scalar(scalar.clone()),
        };
        Self {
            line: 1,
            data,
            trap: None,
            weight: 1,
        }
    }

    /// As JSON: a key that is not a text becomes one, a date stays text.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().map(|item| item.to_json()).collect(),
            Data::Map(entries) => {
                let mut map = Map::new();
                // Merged keys first: the mapping's own win.
                for (_, from) in entries.iter().filter(|(key, _)| key.is_merge()) {
                    for source in from.sources() {
                        if let Value::Object(more) = source.to_json() {
                            for (key, value) in more {
                                map.entry(key).or_insert(value);
                            }
                        }
                    }
                }
                for (key, value) in entries.iter().filter(|(key, _)| !key.is_merge()) {
                    map.insert(key.key_text(), value.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// The line of what is at this path, or of the last part of it that there is.
    pub fn line_of(&self, path: &[String]) -> usize {
        let Some((first, rest)) = path.split_first() else {
            return self.line;
        };
        let inner = match &self.data {
            Data::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.key_text() == *first)
                .map(|(key, value)| if rest.is_empty() { key } else { value }),
            Data::List(items) => first.parse::<usize>().ok().and_then(|n| items.get(n)),
            Data::Scalar(_) => None,
        };
        inner.map_or(self.line, |inner| inner.line_of(rest))
    }

    fn key_text(&self) -> String {
        match &self.data {
            Data::Scalar(Value::String(text)) => text.clone(),
            Data::Scalar(other) => other.to_string(),
            _ => String::new(),
        }
    }

    fn is_merge(&self) -> bool {
        matches!(&self.data, Data::Scalar(Value::String(text)) if text == MERGE)
    }

    /// What a merge key takes in: a mapping, or a list of them.
    fn sources(&self) -> Vec<&Node> {
        match &self.data {
            Data::List(items) => items.iter().map(|item| &**item).collect(),
            _ => vec![self],
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self.data, Data::List(_))
    }

    pub fn is_map(&self) -> bool {
        matches!(self.data, Data::Map(_))
    }
}

/// The merge key as it is kept here, which no other key can be.
const MERGE: &str = "\0<<";

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

/// Makes nodes of events.
#[derive(Default)]
struct Builder {
    documents: Vec<Rc<Node>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
}

struct Open {
    line: usize,
    anchor: usize,
    is_map: bool,
    items: Vec<Rc<Node>>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let (value, trap) = scalar(&text, style, tag.as_deref(), line)?;
                let node = Node {
                    line,
                    data: Data::Scalar(value),
                    trap,
                    weight: 1,
                };
                self.add(Rc::new(node), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_deref(), &["seq", "omap", "pairs"], line)?;
                self.push(line, anchor, false)
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_deref(), &["map", "set"], line)?;
                self.push(line, anchor, true)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                let weight = open
                    .items
                    .iter()
                    .fold(1u64, |sum, item| sum.saturating_add(item.weight));
                if weight > MOST_VALUES {
                    return fault(open.line, "its aliases repeat each other too often");
                }
                let data = match open.is_map {
                    true => {
                        let mut entries = Vec::new();
                        let mut items = open.items.into_iter();
                        while let (Some(key), Some(value)) = (items.next(), items.next()) {
                            entries.push((key, value));
                        }
                        Data::Map(entries)
                    }
                    false => Data::List(open.items),
                };
                let node = Node {
                    line: open.line,
                    data,
                    trap: None,
                    weight,
                };
                self.add(Rc::new(node), open.anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = node.clone();
                    self.add(node, 0)
                }
                None => fault(line, "an alias within what it stands for is not supported"),
            },
            _ => Ok(()),
        }
    }

    fn push(&mut self, line: usize, anchor: usize, is_map: bool) -> Result<(), Fault> {
        if self.open.len() >= DEEPEST {
            return fault(line, "it is nested too deep");
        }
        self.open.push(Open {
            line,
            anchor,
            is_map,
            items: Vec::new(),
        });
        Ok(())
    }

    fn add(&mut self, node: Rc<Node>, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.documents.push(node),
        }
        Ok(())
    }
}

fn collection_tag(tag: Option<&Tag>, known: &[&str], line: usize) -> Result<(), Fault> {
    let is_known =
        |tag: &Tag| is_plain_tag(tag) || standard(tag).is_some_and(|name| known.contains(&name));
    match tag.filter(|tag| !is_known(tag)) {
        Some(tag) => unknown_tag(tag, line),
        None => Ok(()),
    }
}

/// The name of one of YAML's own types.
fn standard(tag: &Tag) -> Option<&str> {
    match tag.handle.as_str() {
        "tag:yaml.org,2002:" => Some(&tag.suffix),
        "" => tag.suffix.strip_prefix("tag:yaml.org,2002:"),
        _ => None,
    }
}

/// `!`, by which a value is of the type that it looks like.
fn is_plain_tag(tag: &Tag) -> bool {
    (tag.handle == "!" && tag.suffix.is_empty()) || (tag.handle.is_empty() && tag.suffix == "!")
}

fn unknown_tag<T>(tag: &Tag, line: usize) -> Result<T, Fault> {
    let ansible = ["vault", "vault-encrypted", "unsafe"].contains(&tag.suffix.as_str());
    fault(
        line,
        match ansible {
            true => {
                "Ansible's tags (!vault, !unsafe) are not known to cloud-init; give user_data as a dictionary, in which Ansible resolves them"
            }
            false => "a value has a tag (!...) that cloud-init does not know",
        },
    )
}

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("a pattern of this crate"));
    };
}

// PyYAML's resolvers (lib/yaml/resolver.py).
pattern!(WORD, "^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$");
pattern!(BOOL, "^(?:true|True|TRUE|false|False|FALSE)$");
pattern!(NULL, "^(?:~|null|Null|NULL|)$");
pattern!(OCTAL, "^[-+]?0[0-7_]+$");
pattern!(OTHER_BASE, "^[-+]?0(?:b[01_]+|x[0-9a-fA-F_]+)$");
pattern!(DECIMAL, "^[-+]?(?:0|[1-9][0-9_]*)$");
pattern!(
    SIXTY,
    "^[-+]?(?:[1-9][0-9_]*(?::[0-5]?[0-9])+|[0-9][0-9_]*(?::[0-5]?[0-9])+\\.[0-9_]*)$"
);
pattern!(
    FLOAT,
    "^(?:[-+]?(?:[0-9][0-9_]*)\\.[0-9_]*(?:[eE][-+][0-9]+)?|\\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\\.(?:inf|Inf|INF)|\\.(?:nan|NaN|NAN))$"
);
pattern!(
    DATE,
    "^([0-9]{4})-([0-9][0-9]?)-([0-9][0-9]?)(?:(?:[Tt]|[ \\t]+)([0-9][0-9]?):([0-9][0-9]):([0-9][0-9])(?:\\.[0-9]*)?(?:[ \\t]*(?:Z|[-+]([0-9][0-9]?)(?::([0-9][0-9]))?))?)?$"
);

/// The value of a scalar, and what is to be said of it.
fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: usize,
) -> Result<(Value, Option<Trap>), Fault> {
    if let Some(tag) = tag.filter(|tag| !is_plain_tag(tag)) {
        let Some(name) = standard(tag) else {
            return unknown_tag(tag, line);
        };
        return match name {
            "binary" if mime::decoded(text).is_none() => {
                fault(line, "a value is not base64, which its tag !!binary says")
            }
            "str" | "binary" | "python/unicode" => Ok((text.into(), None)),
            "null" => Ok((Value::Null, None)),
            "int" | "float" | "bool" | "timestamp" => match plain(text, line)? {
                (Value::String(_), _) if name != "timestamp" || !DATE.is_match(text) => {
                    fault(line, "a value is not what its tag says")
                }
                found => Ok(found),
            },
            _ => unknown_tag(tag, line),
        };
    }
    match style {
        ScalarStyle::Plain => plain(text, line),
        _ => Ok((text.into(), None)),
    }
}

/// The value of a plain scalar in YAML 1.1.
fn plain(text: &str, line: usize) -> Result<(Value, Option<Trap>), Fault> {
    // Most values begin with none of these.
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.~=<yYnNtTfFoO".contains(c))
        && !text.is_empty()
    {
        return Ok((text.into(), None));
    }
    let digits = |radix: u32, prefix: usize| {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let digits: String = digits.chars().skip(prefix).filter(|c| *c != '_').collect();
        match i128::from_str_radix(&digits, radix) {
            Ok(number) => Ok(number_value(if sign { -number } else { number })),
            // More digits than any number that cloud-init takes.
            Err(_) if !digits.is_empty() => Ok(Value::from(0)),
            Err(_) => fault(line, "a number without digits is not allowed; quote it"),
        }
    };
    let underscore = text.contains('_').then_some(Trap::Underscore);
    Ok(if text == "<<" {
        (MERGE.into(), None)
    } else if text == "=" {
        // PyYAML has no constructor for it, but takes it as a key.
        (text.into(), None)
    } else if WORD.is_match(text) {
        let on = matches!(text.to_ascii_lowercase().as_str(), "yes" | "on");
        (on.into(), Some(Trap::Word))
    } else if BOOL.is_match(text) {
        (text.eq_ignore_ascii_case("true").into(), None)
    } else if NULL.is_match(text) {
        (Value::Null, None)
    } else if OCTAL.is_match(text) {
        let value = digits(8, 0)?;
        let decimal = text.trim_start_matches(['+', '-']).parse::<i64>().ok();
        let differs = value.as_i64().map(i64::abs) != decimal;
        let trap = value
            .as_i64()
            .filter(|_| differs)
            .map(|v| Trap::Octal(v.unsigned_abs()));
        (value, underscore.or(trap))
    } else if OTHER_BASE.is_match(text) {
        let radix = if text.contains('b') && !text.contains('x') {
            2
        } else {
            16
        };
        (digits(radix, 2)?, underscore)
    } else if DECIMAL.is_match(text) {
        (digits(10, 0)?, underscore)
    } else if SIXTY.is_match(text) {
        (Value::from(0), Some(Trap::Sixty))
    } else if FLOAT.is_match(text) {
        let number = text
            .replace('_', "")
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64);
        let ends_in_0 = text
            .split_once('.')
            .is_some_and(|(_, part)| part.len() > 1 && part.ends_with('0'));
        let trap = ends_in_0.then_some(Trap::Fraction);
        (
            number.map_or(Value::from(0), Value::Number),
            underscore.or(trap),
        )
    } else if let Some(found) = DATE.captures(text) {
        let part = |n: usize| {
            found
                .get(n)
                .map_or(0, |part| part.as_str().parse::<u32>().unwrap_or(u32::MAX))
        };
        let (year, month, day) = (part(1), part(2), part(3));
        // Without a time the digits must be two each.
        let is_date = found.get(4).is_some() || text.len() == 10;
        let days = match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let exists = year > 0
            && (1..=12).contains(&month)
            && (1..=days).contains(&day)
            && part(4) < 24
            && part(5) < 60
            && part(6) < 60
            && part(7) < 24;
        if is_date && !exists {
            return fault(
                line,
                "a value looks like a date, but there is no such day or time; quote it",
            );
        }
        let trap = match found.get(4) {
            Some(_) => Trap::Time,
            None => Trap::Date,
        };
        (text.into(), is_date.then_some(trap))
    } else {
        (text.into(), None)
    })
}

fn number_value(number: i128) -> Value {
    i64::try_from(number)
        .map(Value::from)
        .or_else(|_| u64::try_from(number).map(Value::from))
        .unwrap_or(Value::from(0))
}

/// Keys whose number is a file mode, which is octal.
const MODES: [&str; 4] = ["permissions", "mode", "umask", "defer_mode"];
/// Keys whose value is a text in every part of cloud-config.
const TEXTS: [&str; 24] = [
    "content",
    "default",
    "domain",
    "encoding",
    "fqdn",
    "gecos",
    "group",
    "hashed_passwd",
    "homedir",
    "hostname",
    "key",
    "label",
    "local-hostname",
    "message",
    "name",
    "owner",
    "passwd",
    "password",
    "path",
    "plain_text_passwd",
    "shell",
    "source",
    "timezone",
    "url",
];

/// Looks for what PyYAML refuses in a tree, and for values that are not what was meant. `key` is the key it stands under,
/// nothing for an item of a list.
fn check(node: &Node, key: Option<&str>) -> Result<(), Fault> {
    match &node.data {
        Data::Scalar(value) => {
            if value == "=" {
                return fault(node.line, "a lone = is not allowed; quote it");
            }
            match node.trap {
                Some(trap) => trapped(trap, key, node.line),
                None => Ok(()),
            }
        }
        Data::List(items) => items.iter().try_for_each(|item| check(item, None)),
        Data::Map(entries) => {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for (key, value) in entries {
                let Data::Scalar(name) = &key.data else {
                    return fault(
                        key.line,
                        "braces or brackets stand where a key is expected; quote the value, as in \"{{ x }}\" (a template \
                         for the guest begins with `## template: jinja`)",
                    );
                };
                if key.is_merge() {
                    if !value.sources().iter().all(|source| source.is_map()) {
                        return fault(
                            key.line,
                            "<< must stand for a mapping or a list of mappings",
                        );
                    }
                    check(value, None)?;
                    continue;
                }
                match key.trap {
                    Some(Trap::Word) => {
                        return fault(
                            key.line,
                            "a key yes, no, on or off is read as true or false; quote it",
                        );
                    }
                    Some(Trap::Date | Trap::Time | Trap::Fraction) | None => {}
                    Some(trap) => trapped(trap, None, key.line)?,
                }
                let text = key.key_text();
                // A number and a text are two keys.
                let identity = format!("{}{text}", if name.is_string() { 's' } else { 'v' });
                if let Some(first) = seen.insert(identity, key.line) {
                    return fault(
                        key.line,
                        format!(
                            "{} is given twice (first in line {first}), and cloud-init keeps the last one only; join them",
                            shown(&text)
                        ),
                    );
                }
                let other = text.replace('-', "_");
                if other != text && SPELLINGS.contains(&other.as_str()) {
                    let is_other = |(key, _): &&(Rc<Node>, Rc<Node>)| key.key_text() == other;
                    if let Some((first, _)) = entries.iter().find(is_other) {
                        return fault(
                            key.line.max(first.line),
                            format!(
                                "'{text}' and '{other}' are one key, and cloud-init keeps the last one only; join them"
                            ),
                        );
                    }
                }
                check(value, Some(&text))?;
            }
            Ok(())
        }
    }
}

/// Keys of users that cloud-init knows in two spellings (`normalize_users_groups`).
pub(crate) const SPELLINGS: [&str; 12] = [
    "create_groups",
    "hashed_passwd",
    "lock_passwd",
    "no_create_home",
    "no_log_init",
    "no_user_group",
    "plain_text_passwd",
    "primary_group",
    "selinux_user",
    "ssh_authorized_keys",
    "ssh_import_id",
    "ssh_redirect_user",
];

/// A key for a message, if it is a plain word.
fn shown(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !key.is_empty() && key.len() <= 40 && key.chars().all(plain) {
        true => format!("'{key}'"),
        false => "a key".to_owned(),
    }
}

fn trapped(trap: Trap, key: Option<&str>, line: usize) -> Result<(), Fault> {
    match (trap, key) {
        (Trap::Sixty, _) => fault(
            line,
            "digits with colons are read as a number to the base 60 (a MAC address, a time); quote them",
        ),
        (Trap::Underscore, _) => fault(
            line,
            "digits with underscores are read as a number without them; quote them if a text is meant",
        ),
        (Trap::Octal(_), Some(key)) if MODES.contains(&key) => Ok(()),
        (Trap::Octal(value), _) => fault(
            line,
            format!(
                "a number with a leading zero is octal, so it is read as {value}; quote it if a text is meant"
            ),
        ),
        (Trap::Word, None) => fault(
            line,
            "an item yes, no, on or off is read as true or false; quote it if a text is meant",
        ),
        (Trap::Word, Some(key)) if TEXTS.contains(&key) => fault(
            line,
            format!(
                "the value of '{key}' is a text, but yes, no, on and off are read as true or false; quote it"
            ),
        ),
        (Trap::Fraction, _) => fault(
            line,
            "a number with a point that ends in 0 (a version such as 3.10) is read without the 0; quote it",
        ),
        (Trap::Date | Trap::Time, Some(key)) if TEXTS.contains(&key) => fault(
            line,
            format!(
                "the value of '{key}' is a text, but looks like a date and is read as one; quote it"
            ),
        ),
        (Trap::Time, None) => fault(
            line,
            "an item that looks like a date with a time is read as one and written otherwise; quote it",
        ),
        (Trap::Word | Trap::Date | Trap::Time, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What PyYAML 6 makes of these texts.
    #[test]
    fn values_are_pyyamls() {
        for (text, value) in [
            (
                "a: yes\nb: Off\nc: y\n",
                json!({"a": true, "b": false, "c": "y"}),
            ),
            (
                "permissions: 0644\nmode: 0600\n",
                json!({"permissions": 420, "mode": 384}),
            ),
            (
                "a: 0o14\nb: 08\nc: 1e3\nd: 1.5e3\ne: 0x1F\n",
                json!({"a": "0o14", "b": "08", "c": "1e3", "d": "1.5e3", "e": 31}),
            ),
            (
                "a: ~\nb:\nc: Null\n",
                json!({"a": null, "b": null, "c": null}),
            ),
            (
                "a: !!str 1\nb: !<tag:yaml.org,2002:str> 2\n",
                json!({"a": "1", "b": "2"}),
            ),
            (
                "a: 2026-01-01\nb: 2026-1-1\n",
                json!({"a": "2026-01-01", "b": "2026-1-1"}),
            ),
            (
                "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n",
                json!({"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
            ),
            (
                "a: |\n  x\ty\n# a\tb\nb: 'c\td' # e\tf\n",
                json!({"a": "x\ty\n", "b": "c\td"}),
            ),
            (
                "packages: [\n  a,\n  b\n]\n",
                json!({"packages": ["a", "b"]}),
            ),
            (
                "a: [b,\nc,\n# d\ne]\nf: {\n\"g\": 1,\nh: 2}\n",
                json!({"a": ["b", "c", "e"], "f": {"g": 1, "h": 2}}),
            ),
            (
                "a:\n  - b: \"c\nd\n\n e\\\nf\"\n    g: 'h\ni'\n",
                json!({"a": [{"b": "c d\nef", "g": "h i"}]}),
            ),
            (
                "a: 99999999999999999999999\nb: 1.5\nc: 1.0\nd: 2026-01-01 10:00:00\n",
                json!({"a": 0, "b": 1.5, "c": 1.0, "d": "2026-01-01 10:00:00"}),
            ),
            ("a: !!binary aGVs bG8=\n", json!({"a": "aGVs bG8="})),
            ("{\"a\":1,\"b\":\"\\/\"}", json!({"a": 1, "b": "/"})),
            (
                "mac: '52:54:00:12:34:56'\nuid: 00\n",
                json!({"mac": "52:54:00:12:34:56", "uid": 0}),
            ),
        ] {
            assert_eq!(read(text).unwrap().unwrap().to_json(), value, "{text}");
        }
        assert!(read("").unwrap().is_none() && read("# only this\n---\n").unwrap().is_none());
    }

    #[test]
    fn what_pyyaml_refuses_or_reads_as_something_else() {
        for (text, line, part) in [
            (
                "a: 1\nb: 2\na: 3\n",
                3,
                "'a' is given twice (first in line 1)",
            ),
            ("x:\n  - name: a\n    name: b\n", 3, "'name' is given twice"),
            ("{a: 1, a: 2}", 1, "given twice"),
            (
                "users:\n- ssh-authorized-keys: []\n  ssh_authorized_keys: []\n",
                3,
                "are one key",
            ),
            ("runcmd:\n  - {{ cmd }}\n", 2, "quote the value"),
            ("a: {{ x }}\n", 1, "quote the value"),
            ("{{ x }}: 1\n", 1, "quote the value"),
            ("[a]: 1\n", 1, "quote the value"),
            ("a: {% if x %}\n", 1, "a value with braces must be quoted"),
            ("a: b: c\n", 1, "not valid YAML"),
            ("a: @x\n", 1, "not valid YAML"),
            ("a: *x\n", 1, "not valid YAML"),
            ("a:\tb\n", 1, "a tab"),
            ("a: b\t\n", 1, "a tab"),
            ("a: \"b\"\t# c\n", 1, "a tab"),
            ("a:\n\t- b\n", 2, "tab"),
            ("a: 1\n---\nb: 2\n", 3, ""),
            (
                "a: [b,\nc]\nd: 1\nd: 2\n",
                4,
                "'d' is given twice (first in line 3)",
            ),
            ("a: \"b\nc\"\nuid: 0100\n", 3, "octal"),
            (
                "a: [2001:db8::1, ::1]\n",
                1,
                "not valid YAML: did not find expected node content",
            ),
            ("a: !!binary aGVsbG8\n", 1, "not base64"),
            ("a: !!python/str x\n", 1, "a tag"),
            ("a: 1\n\u{feff}b: 1\n", 2, "byte order mark"),
            ("packages:\n- [python, 3.10]\n", 2, "without the 0"),
            ("version: 1.20\n", 1, "without the 0"),
            ("passwd: 2026-01-01\n", 1, "looks like a date"),
            (
                "runcmd:\n- [date, -s, 2026-01-01T10:00:00Z]\n",
                2,
                "a date with a time",
            ),
            ("a: &a [*a]\n", 1, "an alias within"),
            ("a: !vault |\n  6162\n", 1, "Ansible's tags"),
            ("a: !x y\n", 1, "a tag"),
            ("a: 2026-13-45\n", 1, "no such day"),
            ("a: 2026-02-29\n", 1, "no such day"),
            ("a: 2026-01-01T25:00:00Z\n", 1, "no such day"),
            ("a: =\n", 1, "a lone ="),
            ("<<: x\n", 1, "<< must stand for"),
            ("a: 0b_\n", 1, "without digits"),
            ("a: !!int x\n", 1, "not what its tag says"),
            ("a: \u{7f}\n", 1, "U+007F"),
            ("macaddress: 52:54:00:12:34:56\n", 1, "base 60"),
            ("runcmd:\n- [sleep, 1:30]\n", 2, "base 60"),
            ("uid: 0100\n", 1, "octal, so it is read as 64"),
            ("runcmd:\n- [chmod, 0644, /x]\n", 2, "octal"),
            ("name: 1_000\n", 1, "underscores"),
            ("mounts:\n- [a, b, c, no]\n", 2, "an item yes"),
            ("on: 1\n", 1, "a key yes"),
            ("users:\n- name: no\n", 2, "'name' is a text"),
        ] {
            let found = read(text).unwrap_err();
            assert_eq!(found.line, line, "{text}: {found:?}");
            assert!(found.problem.contains(part), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_path_has_a_line() {
        let root = read("a: 1\nusers:\n  - default\n  - name: x\n    passwd: y\n")
            .unwrap()
            .unwrap();
        let line =
            |path: &[&str]| root.line_of(&path.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["users", "1", "passwd"]), 5);
        assert_eq!(line(&["users", "1"]), 4);
        assert_eq!(line(&["users", "1", "nothing"]), 4);
    }
}
