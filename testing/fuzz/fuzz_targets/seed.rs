//! Input for a seed as JSON: refused, or a drive that reads back as it was made. Anything else is read as an image.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nocloud_seed::{Input, IpConfig, Layout, Nic, Payload, Seed, iso};
use serde_json::{Map, Value};

fn payload(value: &Value) -> Option<Payload> {
    match value {
        Value::String(text) => Some(Payload::Text(text.clone())),
        Value::Object(dict) => Some(Payload::Dict(dict.clone())),
        _ => None,
    }
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let Ok(given) = serde_json::from_slice::<Map<String, Value>>(data) else {
        let _ = iso::label(data);
        let _ = iso::read(data);
        return;
    };
    let get = |key: &str| given.get(key).unwrap_or(&Value::Null);
    let ip = get("ipconfig")
        .as_str()
        .and_then(|text| IpConfig::parse("ipconfig0", text).ok());
    let input = Input {
        layout: if get("configdrive") == &Value::Bool(true) {
            Layout::ConfigDrive
        } else {
            Layout::Nocloud
        },
        user_data: payload(get("user_data")),
        vendor_data: payload(get("vendor_data")),
        meta_data: get("meta_data").as_object().cloned().unwrap_or_default(),
        network_config: payload(get("network_config")),
        hostname: get("hostname").as_str().map(str::to_owned),
        authorized_keys: texts(get("keys")),
        host_keys: Vec::new(),
        nics: ip
            .map(|ip| Nic {
                name: "net0".into(),
                mac: "BC:24:11:00:00:0B".into(),
                ip,
            })
            .into_iter()
            .collect(),
        nameservers: texts(get("nameservers")),
        search_domains: texts(get("search")),
    };
    match Seed::new(&input) {
        Ok(seed) => assert_eq!(
            &iso::read(&seed.iso()).expect("it was written by us"),
            seed.files()
        ),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
