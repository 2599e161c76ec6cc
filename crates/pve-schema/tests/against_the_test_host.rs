//! The table says what the schema says that the PVE test host verifies requests with. That schema was written by itself, so a
//! mistake in one of them shows here.

use std::collections::BTreeSet;

use pve_schema::{Key, Kind, MOST, NIC_MODELS, PARAMETERS, cpu, drive_keys, parameter};
use serde_json::{Map, Value};

fn schema() -> Value {
    serde_json::from_str(include_str!(
        "../../../testing/pve-testhost/src/schema.json"
    ))
    .unwrap()
}

/// What the schema says of a value, where the table says something else. [`Kind::Any`] leaves the value to PVE.
fn difference(kind: &Kind, entry: &Value) -> Option<String> {
    let number = |name: &str, none: u64| entry[name].as_f64().map_or(none, |number| number as u64);
    let texts = |name: &str| -> Vec<&str> {
        let texts = entry[name].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).collect()
    };
    let kind_there = entry["type"].as_str().unwrap_or("string");
    let same = match kind {
        Kind::Flag => kind_there == "boolean",
        Kind::Integer(least, most) => {
            // PVE says "number" of aw-bits and means whole ones.
            matches!(kind_there, "integer" | "number")
                && number("min", 0) == *least
                && number("max", MOST) == *most
        }
        Kind::Number => kind_there == "number",
        Kind::Choice(choices) => texts("enum") == *choices,
        Kind::Text(..) => kind_there == "string" && texts("enum").is_empty(),
        Kind::Any | Kind::Properties(_) | Kind::Drive | Kind::Nic | Kind::NotConfig => {
            kind_there != "boolean"
        }
    };
    (!same).then(|| format!("{kind:?} is {entry} there"))
}

fn compare_keys<'a>(
    name: &str,
    keys: impl Iterator<Item = &'a Key>,
    default_key: Option<&str>,
    format: &Map<String, Value>,
    problems: &mut Vec<String>,
) {
    let mut seen = BTreeSet::from(["file", "volume"]);
    for key in keys {
        seen.insert(key.name);
        let Some(entry) = format.get(key.name) else {
            problems.push(format!("{name}: there is no key {}", key.name));
            continue;
        };
        if let Some(alias) = entry["alias"].as_str() {
            if alias != "file" && key.alias_of != Some(alias) {
                problems.push(format!("{name}: {} is another name of {alias}", key.name));
            }
            continue;
        }
        // The test host lists fewer formats of a TPM's disk, which PVE takes and then ignores.
        let is_format = key.name == "format" && name == "tpmstate0";
        if !is_format && let Some(difference) = difference(&key.kind, entry) {
            problems.push(format!("{name}: {}: {difference}", key.name));
        }
        let is_default = entry["dk"] == 1;
        if is_default != (default_key == Some(key.name)) {
            problems.push(format!("{name}: {} as the default key", key.name));
        }
    }
    let is_model = |key: &str| name == "net*" && NIC_MODELS.contains(&key);
    for key in format.keys().filter(|key| !is_model(key)) {
        if !seen.contains(key.as_str()) {
            problems.push(format!("{name}: the table lacks the key {key}"));
        }
    }
}

#[test]
fn the_table_is_that_of_the_test_host() {
    let schema = schema();
    let parameters = schema["sets"]["vm"].as_object().unwrap();
    let mut problems = Vec::new();
    for (name, entry) in parameters {
        let name = name.replace("[n]", "*");
        let Some(row) = PARAMETERS.iter().find(|row| row.name == name) else {
            problems.push(format!("the table lacks {name}"));
            continue;
        };
        if !row.is_config() {
            continue;
        }
        problems.extend(difference(&row.kind, entry).map(|why| format!("{name}: {why}")));
        let format = entry["fmt"].as_str().and_then(|fmt| fmt.strip_prefix('@'));
        let Some(format) = format.and_then(|format| schema["formats"][format].as_object()) else {
            continue;
        };
        match row.kind {
            Kind::Properties(properties) => {
                let keys = properties.keys.iter();
                compare_keys(&name, keys, properties.default_key, format, &mut problems);
            }
            Kind::Nic => {
                let nic = pve_schema::NIC;
                let keys = nic.keys.iter();
                compare_keys(&name, keys, nic.default_key, format, &mut problems);
            }
            Kind::Drive => {
                let key = name.replace('*', "0");
                compare_keys(&name, drive_keys(&key), None, format, &mut problems);
            }
            _ => {}
        }
    }
    for row in PARAMETERS.iter().filter(|row| row.is_config()) {
        let name = row.name.replace('*', "[n]");
        if !parameters.contains_key(&name) {
            problems.push(format!("{} is not in the schema", row.name));
        }
    }
    assert_eq!(problems, Vec::<String>::new(), "{problems:#?}");
}

#[test]
fn rows_are_found_by_names_with_an_index() {
    for (name, row) in [
        ("memory", Some("memory")),
        ("net0", Some("net*")),
        ("numa", Some("numa")),
        ("numa0", Some("numa*")),
        ("net01", None),
        ("net", None),
    ] {
        assert_eq!(parameter(name).map(|row| row.name), row, "{name}");
    }
    let names: Vec<&str> = PARAMETERS.iter().map(|row| row.name).collect();
    assert!(names.is_sorted(), "in order, so that a row is found");
    for row in PARAMETERS {
        assert_eq!(row.name.ends_with('*'), row.count.is_some(), "{}", row.name);
    }
}

#[test]
fn cpu_models_and_flags_are_those_of_the_test_host() {
    let schema = schema();
    let texts = |list: &Value| -> Vec<String> {
        let texts = list.as_array().unwrap().iter();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    for (arch, models) in [("x86_64", cpu::X86_64), ("aarch64", cpu::AARCH64)] {
        let mut there = texts(&schema["cpu"]["models"][arch]);
        there.push("host".into());
        there.sort();
        assert_eq!(there, models, "{arch}");
    }
    assert_eq!(texts(&schema["cpu"]["flags"]), cpu::FLAGS);
}
