//! `datacenter.cfg` in the data directory, in PVE's own format; read anew whenever it is asked for.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::files::write_private;
use crate::formats::list;

/// The options of the cluster.
pub struct Datacenter(BTreeMap<String, String>);

/// Who may set which tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserAllow {
    /// Any tag but the registered ones.
    Free,
    /// Tags that some VM has, and those of the list.
    Existing,
    /// Those of the list.
    List,
    /// None at all.
    None,
}

impl Datacenter {
    /// What `DIR/datacenter.cfg` says; a file that is not there says nothing.
    pub fn read(dir: &Path) -> Self {
        let text = std::fs::read_to_string(dir.join("datacenter.cfg")).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once(':'));
        Self(
            pairs
                .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    /// PUT /cluster/options.
    pub fn change(
        dir: &Path,
        set: &BTreeMap<String, String>,
        delete: &[&str],
    ) -> Result<(), ApiError> {
        let mut options = Self::read(dir).0;
        options.extend(set.clone());
        options.retain(|key, _| !delete.contains(&key.as_str()));
        let text: String = options
            .iter()
            .map(|(key, value)| format!("{key}: {value}\n"))
            .collect();
        Ok(write_private(&dir.join("datacenter.cfg"), text.as_bytes())?)
    }

    /// A property of a property string.
    fn property(&self, option: &str, key: &str) -> Option<&str> {
        let parts = self.0.get(option)?.split(',');
        let mut pairs = parts.filter_map(|part| part.split_once('='));
        pairs
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value)
    }

    /// `user-tag-access: user-allow=...`.
    pub fn user_allow(&self) -> UserAllow {
        match self.property("user-tag-access", "user-allow") {
            Some("existing") => UserAllow::Existing,
            Some("list") => UserAllow::List,
            Some("none") => UserAllow::None,
            _ => UserAllow::Free,
        }
    }

    /// `user-tag-access: user-allow-list=...`.
    pub fn user_allow_list(&self) -> Vec<&str> {
        list(
            self.property("user-tag-access", "user-allow-list")
                .unwrap_or_default(),
        )
    }

    /// `registered-tags`: only those with Sys.Modify on / may set them.
    pub fn registered_tags(&self) -> Vec<&str> {
        list(self.0.get("registered-tags").map_or("", String::as_str))
    }

    /// `tag-style: case-sensitive=1`.
    pub fn is_case_sensitive(&self) -> bool {
        self.property("tag-style", "case-sensitive") == Some("1")
    }

    /// `tag-style: ordering=config`: tags keep the order in which they were given.
    pub fn keeps_tag_order(&self) -> bool {
        self.property("tag-style", "ordering") == Some("config")
    }

    /// `next-id: lower=...,upper=...`.
    pub fn next_id(&self) -> std::ops::Range<u32> {
        let number = |key, default| {
            let value = self.property("next-id", key);
            value
                .and_then(|value| value.parse().ok())
                .unwrap_or(default)
        };
        number("lower", 100)..number("upper", 1_000_000)
    }

    /// As GET /cluster/options shows it; `all` takes Sys.Audit on /.
    pub fn json(&self, all: bool) -> Map<String, Value> {
        let visible = |key: &str| all || matches!(key, "console" | "tag-style");
        let options = self.0.iter().filter(|(key, _)| visible(key));
        options
            .map(|(key, value)| (key.clone(), shown(key, value)))
            .collect()
    }
}

fn shown(key: &str, value: &str) -> Value {
    match key {
        "registered-tags" => {
            let mut tags = list(value);
            tags.sort_unstable();
            json!(tags)
        }
        "user-tag-access" | "tag-style" | "next-id" | "migration" | "ha" => {
            let pairs = value.split(',').filter_map(|part| part.split_once('='));
            let shown = |(key, value): (&str, &str)| {
                let value = match key {
                    "user-allow-list" => json!(list(value)),
                    "lower" | "upper" | "case-sensitive" => value
                        .parse::<u64>()
                        .map_or(json!(value), |number| json!(number)),
                    _ => json!(value),
                };
                (key.to_owned(), value)
            };
            Value::Object(pairs.map(shown).collect())
        }
        _ => json!(value),
    }
}
