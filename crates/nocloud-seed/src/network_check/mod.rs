//! Whether a network configuration is one that cloud-init renders: by the rules of its parser
//! (cloudinit/net/network_state.py) and schemas (schema-network-config-v1.json and -v2.json).

mod keys;
mod values;
mod version_1;
mod version_2;

use serde_json::{Map, Value};

use crate::findings::Findings;

use version_1::version_1;
use version_2::version_2;

pub(crate) fn check(config: &Map<String, Value>) -> Findings {
    let mut findings = Findings::default();
    match config.get("version") {
        // No network at all (cloudinit/net/__init__.py, `is_disabled_cfg`).
        _ if config.get("config").is_some_and(|value| value == "disabled") => {}
        Some(Value::Number(n)) if n.as_u64() == Some(1) => version_1(config, &mut findings),
        Some(Value::Number(n)) if n.as_u64() == Some(2) => version_2(config, &mut findings),
        None => findings.refuse(
            &["version"],
            "is required: 1 or 2; cloud-init ignores a configuration without it",
        ),
        Some(Value::String(text)) if ["1", "2"].contains(&text.trim()) => findings.refuse(
            &["version"],
            format!(
                "must be a number (got the text '{}'); cloud-init ignores the configuration otherwise",
                text.trim()
            ),
        ),
        Some(other) => {
            let got = match other {
                Value::Number(number) => format!(" (got {number})"),
                _ => String::new(),
            };
            findings.refuse(&["version"], format!("must be 1 or 2{got}"));
        }
    }
    findings
}
