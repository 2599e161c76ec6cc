//! The tags of values, such as `!!str`.

use saphyr_parser::Tag;

use super::node::{Fault, fault};

pub(super) fn collection_tag(tag: Option<&Tag>, known: &[&str], line: usize) -> Result<(), Fault> {
    let is_known =
        |tag: &Tag| is_plain_tag(tag) || standard(tag).is_some_and(|name| known.contains(&name));
    match tag.filter(|tag| !is_known(tag)) {
        Some(tag) => unknown_tag(tag, line),
        None => Ok(()),
    }
}

/// The name of one of YAML's own types.
pub(super) fn standard(tag: &Tag) -> Option<&str> {
    match tag.handle.as_str() {
        "tag:yaml.org,2002:" => Some(&tag.suffix),
        "" => tag.suffix.strip_prefix("tag:yaml.org,2002:"),
        _ => None,
    }
}

/// `!`, by which a value is of the type that it looks like.
pub(super) fn is_plain_tag(tag: &Tag) -> bool {
    (tag.handle == "!" && tag.suffix.is_empty()) || (tag.handle.is_empty() && tag.suffix == "!")
}

pub(super) fn unknown_tag<T>(tag: &Tag, line: usize) -> Result<T, Fault> {
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
