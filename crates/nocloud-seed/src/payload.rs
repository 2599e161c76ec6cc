//! Data that a user gives.

use serde_json::{Map, Value};

/// Data that a user gives: structured, or a text to be passed on as it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Passed on unchanged.
    Text(String),
    /// Written as YAML.
    Dict(Map<String, Value>),
}
