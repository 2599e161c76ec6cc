//! The UUID by which a record knows its VM.

use pve_module::record::{Identity, Record};
use serde_json::{Value, json};

use crate::module_args::Args;

/// Give a new VM the identity that its record names, beside what the user set there.
pub fn identify(args: &mut Args, record: &mut Record) {
    let config = args.entry("config").or_insert_with(|| json!({}));
    let Some(config) = config.as_object_mut() else {
        return;
    };
    let given = config
        .get("smbios1")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let own = Identity::of(Some(&given), config.get("vmgenid").and_then(Value::as_str));
    match own.uuid {
        Some(uuid) => record.uuid = uuid,
        None => {
            let rest = if given.is_empty() {
                String::new()
            } else {
                format!(",{given}")
            };
            config.insert(
                "smbios1".into(),
                format!("uuid={}{rest}", record.uuid).into(),
            );
        }
    }
}
