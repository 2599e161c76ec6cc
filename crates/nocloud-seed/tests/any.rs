//! Input of any kind: a seed that reads back as it was made, or a clear error.

use std::collections::BTreeMap;

use nocloud_seed::{Error, Input, IpConfig, Layout, Nic, Payload, Seed, iso};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("root")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            dict(inner).prop_map(Value::from),
        ]
    })
}

/// A dictionary with keys that mean something, short ones, and very long ones.
fn dict(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let key = "users|write_files|name|ssh_authorized_keys|ssh_deletekeys|instance-id|uuid|\
        local-hostname|hostname|.{0,6}|[a-z\"é]{100,1500}";
    prop::collection::btree_map(key, value, 0..5).prop_map(|map| map.into_iter().collect())
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        dict(value()).prop_map(Payload::Dict),
        any::<String>().prop_map(Payload::Text),
        "#cloud-config\n[a-z&*:{}\\[\\]<\n >|-]{0,60}".prop_map(Payload::Text),
        "(#!|#include|## template: jinja\n#cloud-config|mime-version:).{0,20}"
            .prop_map(Payload::Text),
        Just(Payload::Text(r#"{"links": [], "services": []}"#.into())),
        Just(Payload::Dict(Map::from_iter([(
            "networks".into(),
            json!([1])
        )]))),
    ]
}

prop_compose! {
    fn input()(
        layout in prop_oneof![Just(Layout::Nocloud), Just(Layout::ConfigDrive)],
        user_data in prop::option::of(payload()),
        vendor_data in prop::option::of(payload()),
        meta_data in dict(value()),
        network_config in prop::option::of(payload()),
        hostname in prop::option::of(prop_oneof![any::<String>(), "[a-z.-]{0,9}"]),
        authorized_keys in prop::collection::vec(prop_oneof![any::<String>(), "ssh-rsa [ -~é]{1,9}"], 0..3),
        ip in "(ip|gw|ip6|gw6|.)=(dhcp|auto|[0-9./:a-f]{0,12}|10\\.0\\.0\\.1/[0-9]{1,3})",
        mac in any::<String>(),
        nameservers in prop::collection::vec(prop_oneof![
            20 => any::<std::net::IpAddr>().prop_map(|address| address.to_string()),
            1 => any::<String>(),
        ], 0..3),
        search_domains in prop::collection::vec(any::<String>(), 0..3),
    ) -> Input {
        let nic = IpConfig::parse("ipconfig0", &ip).ok().map(|ip| Nic { name: "net0".into(), mac, ip });
        Input {
            layout, user_data, vendor_data, meta_data, network_config, hostname, authorized_keys,
            nics: nic.into_iter().collect(), search_domains, nameservers,
            host_keys: Vec::new(),
        }
    }
}

/// A drive's files by their NoCloud names.
fn nocloud_names(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &String| match path.strip_prefix("openstack/latest/") {
        Some("network_data.json") => "network-config".to_owned(),
        Some(file) => file.trim_end_matches(".json").replace('_', "-"),
        None => path.clone(),
    };
    let content = |path: &str, bytes: &Vec<u8>| match path.ends_with("/vendor_data.json") {
        true => {
            let by_consumer: Value = serde_json::from_slice(bytes).unwrap();
            by_consumer["cloud-init"]
                .as_str()
                .unwrap()
                .as_bytes()
                .to_vec()
        }
        false => bytes.clone(),
    };
    files
        .iter()
        .map(|(path, bytes)| (name(path), content(path, bytes)))
        .collect()
}

/// What a guest reads from the drive's file.
fn read(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    let text = std::str::from_utf8(&files[name]).unwrap();
    // A config drive's are JSON.
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_yaml_ng::from_str(text).ok())
        .unwrap_or_else(|| panic!("{name} is unreadable:\n{text}"))
}

proptest! {
    #[test]
    fn any_input_is_a_seed_or_an_error(input in input()) {
        let seed = match Seed::new(&input) {
            Ok(seed) => seed,
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                return Ok(());
            }
        };
        let drive = seed.iso();
        let files = iso::read(&drive).unwrap();
        prop_assert_eq!(&files, seed.files());
        prop_assert_eq!(iso::label(&drive).unwrap(), match input.layout {
            Layout::Nocloud => "cidata",
            Layout::ConfigDrive => "config-2",
        });
        prop_assert_eq!(seed.iso_name(101), Seed::new(&input).unwrap().iso_name(101));
        let on_config_drive = input.layout == Layout::ConfigDrive;
        if on_config_drive {
            for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with(".json")) {
                prop_assert!(serde_json::from_slice::<Map<String, Value>>(bytes).is_ok(), "{}", path);
            }
        }
        let files = nocloud_names(&files);
        let meta = read(&files, "meta-data");
        for (key, value) in &input.meta_data {
            let name = match key.as_str() {
                "instance-id" if on_config_drive => "uuid",
                "local-hostname" if on_config_drive => "hostname",
                key => key,
            };
            let is_id = name == if on_config_drive { "uuid" } else { "instance-id" };
            prop_assert!(meta[name] == *value || (is_id && value.is_null()), "{}", key);
        }
        for (name, payload) in [
            ("user-data", &input.user_data),
            ("vendor-data", &input.vendor_data),
            ("network-config", &input.network_config),
        ] {
            match payload {
                Some(Payload::Text(text)) => prop_assert_eq!(&files[name], text.as_bytes()),
                Some(Payload::Dict(dict)) => {
                    let found = read(&files, name);
                    let own = |key: &str| ["users", "write_files"].contains(&key) && name == "user-data";
                    for (key, value) in dict.iter().filter(|(key, _)| !own(key)) {
                        prop_assert_eq!(&found[key], value);
                    }
                }
                None => {}
            }
        }
    }

    #[test]
    fn any_addresses_are_read_or_refused(text in prop_oneof![any::<String>(), "((ip|gw|ip6|gw6)=[0-9a-f.:/]{0,20},?){0,5}"]) {
        if let Ok(config) = IpConfig::parse("ipconfig0", &text) {
            prop_assert_eq!(IpConfig::parse("ipconfig0", &config.to_string()), Ok(config));
        }
    }
}

/// A text of few lines that is billions of values: refused before it fills the memory.
#[test]
fn aliases_do_not_multiply() {
    let mut text = String::from("#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..30 {
        let of = format!("*a{}, ", n - 1).repeat(10);
        text.push_str(&format!("a{n}: &a{n} [{of}]\n"));
    }
    let input = Input {
        user_data: Some(Payload::Text(text)),
        ..Input::default()
    };
    assert!(matches!(Seed::new(&input), Err(Error::Text { .. })));
}

/// YAML readers look for the colon of a key in 1024 characters only.
#[test]
fn a_long_key_is_read_back() {
    for length in [999, 1001, 5000] {
        let key = "k".repeat(length);
        let meta_data = json!({key.clone(): {"a": [{key.clone(): 1}]}});
        let input = Input {
            meta_data: meta_data.as_object().unwrap().clone(),
            ..Input::default()
        };
        let meta = read(Seed::new(&input).unwrap().files(), "meta-data");
        assert_eq!(meta[&key]["a"][0][&key], 1);
    }
}
