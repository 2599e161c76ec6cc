//! Whether a value is one that a parameter, or a key of a property string, can have.

use pve_client::property;
use pve_schema::Kind::{self, Choice, Flag, Integer, Number, Text};
use pve_schema::MOST;

/// Refuse a value that is not of this kind. The error is what is expected.
pub fn check(kind: &Kind, value: &str) -> Result<(), String> {
    let (is, expected) = match kind {
        Flag => (
            property::parse_bool(value).is_some(),
            "a boolean (1 or 0)".to_owned(),
        ),
        Integer(least, MOST) => (
            value.parse::<u64>().is_ok_and(|number| number >= *least),
            match least {
                0 => "a whole number".to_owned(),
                least => format!("a whole number, at least {least}"),
            },
        ),
        Integer(least, most) => (
            value
                .parse::<u64>()
                .is_ok_and(|number| (*least..=*most).contains(&number)),
            format!("between {least} and {most}"),
        ),
        Number => (
            value.parse::<f64>().is_ok_and(|number| number >= 0.0),
            "a number".to_owned(),
        ),
        Choice(choices) => (
            choices.contains(&value),
            format!("one of {}", choices.join(", ")),
        ),
        Text(is, expected) => (is(value), (*expected).to_owned()),
        // Checked elsewhere, or by PVE itself.
        Kind::Any | Kind::Properties(_) | Kind::Drive | Kind::Nic | Kind::NotConfig => {
            (true, String::new())
        }
    };
    match is {
        true => Ok(()),
        false => Err(expected),
    }
}
