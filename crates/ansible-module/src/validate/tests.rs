//! Ours against what Ansible's own validation was recorded to say (`tests/recorded`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::validate;
use crate::Rule;
use crate::spec::Spec;

fn three() -> i64 {
    3
}

fn yes() -> bool {
    true
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Types {
    i: Option<i64>,
    #[serde(default = "three")]
    i_def: i64,
    b: Option<bool>,
    #[serde(default = "yes")]
    b_def: bool,
    f: Option<f64>,
    s: Option<String>,
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    p: Option<PathBuf>,
    #[schemars(extend("x-ansible" = {"elements": "path"}))]
    pl: Option<Vec<PathBuf>>,
    l: Option<Vec<String>>,
    li: Option<Vec<i64>>,
    d: Option<Map<String, Value>>,
    #[serde(default)]
    state: State,
    discard: Option<Discard>,
    phases: Option<Vec<Phase>>,
    net: Option<Net>,
    nics: Option<Vec<Nic>>,
    #[schemars(extend("x-ansible" = {"aliases": ["zz", "y"]}))]
    z: Option<String>,
    #[schemars(extend("x-ansible" = {"env": ["RECORDED"]}))]
    e: Option<i64>,
}

#[derive(JsonSchema, Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    #[default]
    Present,
    /// It is not.
    Absent,
}

#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Discard {
    On,
    Ignore,
}

#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    Disko,
    Install,
}

#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Model {
    Virtio,
    E1000,
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Net {
    model: Model,
    tag: Option<i64>,
    sub: Option<Sub>,
    ls: Option<Vec<i64>>,
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Sub {
    a: Option<i64>,
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Nic {
    a: i64,
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Required {
    b: String,
    a: String,
    n: i64,
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Rules {
    a: Option<String>,
    b: Option<String>,
    s: Option<String>,
    t: Option<String>,
    u: Option<String>,
    c: Option<bool>,
    n: Option<i64>,
}

fn rules() -> Vec<Rule> {
    let required_if = |option, value, options, one_is_enough| Rule::RequiredIf {
        option,
        value,
        options,
        one_is_enough,
    };
    vec![
        Rule::MutuallyExclusive(&["a", "b"]),
        Rule::MutuallyExclusive(&["a", "s"]),
        Rule::RequiredTogether(&["t", "u"]),
        Rule::RequiredOneOf(&["a", "b", "s", "n"]),
        required_if("s", "present", &["t", "u"], false),
        required_if("c", "True", &["a", "b"], true),
        required_if("n", "5", &["a"], false),
        Rule::RequiredBy {
            option: "b",
            needs: &["n", "c"],
        },
    ]
}

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    spec: String,
    params: Map<String, Value>,
    error: Option<String>,
    validated: Option<Value>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[test]
fn as_ansible_says() {
    // SAFETY: nothing else in this process reads or writes the environment meanwhile; other
    // tests of this crate do not depend on these names.
    unsafe {
        std::env::set_var("HOME", "/home/me");
        std::env::set_var("RECORDED", "9");
    }
    let recorded = include_str!("../../tests/recorded/cases.json");
    let recorded: Recorded = serde_json::from_str(recorded).unwrap();
    assert!(recorded.cases.len() > 100);
    let (mut different, mut beyond) = (Vec::new(), 0);
    for case in recorded.cases {
        let (spec, rules) = match case.spec.as_str() {
            "types" => (Spec::of::<Types>(), Vec::new()),
            "required" => (Spec::of::<Required>(), Vec::new()),
            _ => (Spec::of::<Rules>(), rules()),
        };
        let mut params = case.params.clone();
        let checked = validate(&spec, &rules, &mut params);
        let (error, validated) = match checked.error("probe", false) {
            Some(error) => (Some(error), None),
            None => (None, Some(Value::Object(params))),
        };
        // Python's repr of a list or dict, as a value or in the error. Ours is in `beyond_ansible`.
        let scalar = ["i", "s"].iter().find_map(|name| case.params.get(*name));
        if scalar.is_some_and(|value| value.is_array() || value.is_object()) {
            assert!(error.is_some_and(|error| error.contains("expected ")));
            beyond += 1;
            continue;
        }
        if error != case.error || validated != case.validated || checked.warnings != case.warnings {
            different.push(format!(
                "{}\n  Ansible: {:?} {:?}\n  ours:    {error:?} {validated:?}",
                json!(case.params),
                case.error,
                case.validated
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(beyond, 5);
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Beyond {
    #[serde(default)]
    disks: BTreeMap<String, Disk>,
    #[serde(default)]
    texts: BTreeMap<String, String>,
    name: Option<String>,
    names: Option<Vec<String>>,
    port: Option<u16>,
    nets: Option<BTreeMap<String, Net>>,
    state: Option<State>,
    host: Option<OneOrMany>,
}

#[derive(JsonSchema, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is used")]
enum Disk {
    Text(String),
    Parts(Parts),
}

#[derive(JsonSchema, Deserialize)]
#[expect(dead_code, reason = "only the schema is used")]
struct Parts {
    storage: String,
    iothread: Option<bool>,
}

#[derive(JsonSchema, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is used")]
enum OneOrMany {
    Many(Vec<String>),
    One(String),
}

/// Where Ansible has nothing to say, or nothing helpful.
#[test]
fn beyond_ansible() {
    let check = |params: Value| {
        let mut params = params.as_object().unwrap().clone();
        let checked = validate(&Spec::of::<Beyond>(), &[], &mut params);
        match checked.error("probe", false) {
            Some(error) => Err(error),
            None => {
                params.retain(|_, value| !value.is_null());
                Ok(Value::Object(params))
            }
        }
    };
    let ok = |params: Value, expected: Value| assert_eq!(check(params), Ok(expected));
    let error = |params: Value, expected: &str| assert_eq!(check(params), Err(expected.into()));

    ok(
        json!({"disks": {"scsi0": "local:32", "scsi1": {"storage": "x", "iothread": "yes"}, "scsi2": 5}}),
        json!({"disks": {"scsi0": "local:32", "scsi1": {"storage": "x", "iothread": true}, "scsi2": "5"}}),
    );
    ok(
        json!({"texts": {"a": 1, "b": true}}),
        json!({"texts": {"a": "1", "b": "True"}}),
    );
    ok(
        json!({"texts": "a=1 b=2"}),
        json!({"texts": {"a": "1", "b": "2"}}),
    );
    ok(json!({"texts": null, "state": null}), json!({}));
    ok(json!({"host": "a"}), json!({"host": "a"}));
    ok(json!({"host": ["a", 1]}), json!({"host": ["a", "1"]}));
    error(
        json!({"disks": {"scsi0": {"storage": "x", "sice": 1}}}),
        "Unsupported parameters for (probe) module: disks.scsi0.sice. Supported parameters include: iothread, storage.",
    );
    error(
        json!({"disks": {"scsi0": {"iothread": 1}}}),
        "missing required arguments: storage found in disks -> scsi0",
    );
    error(
        json!({"nets": {"net0": {"model": "x"}}}),
        "value of model must be one of: virtio, e1000, got: x found in nets -> net0",
    );
    error(
        json!({"nets": {"net0": 3}}),
        "argument 'net0' is of type int found in 'nets'. and we were unable to convert to dict: <class 'int'> cannot be converted to a dict",
    );
    // Ansible takes Python's repr of what is not a text.
    let list = "and we were unable to convert to str: expected text (got a list)";
    let dict = "and we were unable to convert to str: expected text (got a dict)";
    error(
        json!({"name": ["a", "b"]}),
        &format!("argument 'name' is of type list {list}"),
    );
    error(
        json!({"name": {"a": 1}}),
        &format!("argument 'name' is of type dict {dict}"),
    );
    error(
        json!({"names": ["a", {"name": "b"}]}),
        &format!("Elements value for option 'names' is of type dict {dict}"),
    );
    error(
        json!({"names": [["a"]]}),
        &format!("Elements value for option 'names' is of type list {list}"),
    );
    error(
        json!({"texts": {"a": ["x"]}}),
        &format!("argument 'a' is of type list found in 'texts'. {list}"),
    );
    error(
        json!({"host": [{"a": 1}]}),
        &format!("Elements value for option 'host' is of type dict {dict}"),
    );
    error(
        json!({"port": [1]}),
        "argument 'port' is of type list and we were unable to convert to int: expected an integer (got a list)",
    );
    error(
        json!({"port": 70000}),
        "value of port must be between 0 and 65535, got: 70000",
    );
}
