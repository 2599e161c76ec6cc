//! Parameters of a call, form encoded as pveproxy parses them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stay as it is: RFC 3986's unreserved characters. A `=` must not: pveproxy
/// misparses `boot=order=ide2`.
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Percent-encode one path segment, name or value.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODE).to_string()
}

/// The parameters of a call in the order they were added. A name may occur several
/// times: pveproxy reads that as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Set `name` to `value`, replacing earlier values of that name.
    pub fn set(&mut self, name: impl Into<String>, value: impl ToString) -> &mut Self {
        let name = name.into();
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value.to_string()));
        self
    }

    /// Add one more value of `name` (an array parameter, such as an agent command's words).
    pub fn push(&mut self, name: impl Into<String>, value: impl ToString) -> &mut Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// [`Params::set`] for building in one expression.
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.set(name, value);
        self
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Drop every value of `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// As `application/x-www-form-urlencoded`; blanks become `%20`.
    pub(crate) fn to_form(&self) -> String {
        encode_pairs(self.iter())
    }
}

impl<N: Into<String>, V: ToString> FromIterator<(N, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.to_string()))
                .collect(),
        )
    }
}

/// `a=1&b=2` with both sides percent-encoded.
pub(crate) fn encode_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    pairs
        .into_iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_signs_blanks_and_unicode_are_encoded() {
        let params = Params::new()
            .with("boot", "order=scsi0;ide2")
            .with("description", "a b+ü");
        assert_eq!(
            params.to_form(),
            "boot=order%3Dscsi0%3Bide2&description=a%20b%2B%C3%BC"
        );
    }

    #[test]
    fn set_replaces_and_push_repeats() {
        let mut params = Params::new().with("a", 1).with("a", 2);
        params.push("command", "ls").push("command", "-l");
        assert_eq!(params.to_form(), "a=2&command=ls&command=-l");
        assert_eq!(params.get("command"), Some("ls"));
    }
}
