//! From the parser's events to values.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Span};

use super::node::{Data, Fault, Node, fault};
use super::scalar::scalar;
use super::tag::collection_tag;

/// How many values a text may be once its aliases are followed.
const MOST_VALUES: u64 = 100_000;
/// How deep it may be nested: PyYAML gives up at some 300.
pub(super) const DEEPEST: usize = 100;

/// Makes nodes of events.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) documents: Vec<Rc<Node>>,
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
    pub(super) fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
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
