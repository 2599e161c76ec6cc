//! NICs.

use std::collections::BTreeMap;

use pve_client::property::{self, PropertyString};
use pve_schema::{Kind, NIC, NIC_MODELS, syntax};
use serde_json::Value;

use crate::config::{dict, kind, text, validation};

/// A NIC, described or existing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The NIC's model; `virtio` if nothing else is said.
    pub model: String,
    /// The MAC address in capitals. Without one PVE makes one up.
    pub mac: Option<String>,
    /// Every other option, as PVE writes them.
    pub options: BTreeMap<String, String>,
}

/// Whether `key` names a NIC.
pub fn is_key(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(syntax::is_index)
}

impl Nic {
    /// Read what a user or PVE wrote for the NIC `key`.
    pub fn parse(key: &str, value: &Value) -> Result<Self, String> {
        let fields = match value {
            Value::String(text) if text.is_empty() => {
                return Err(format!("{key}: '' is not a NIC; null removes one"));
            }
            Value::String(text) => {
                PropertyString::parse(&text::without_blanks(text), Some("model"))
                    .map_err(|e| format!("{key}: {e}"))?
                    .iter()
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect()
            }
            Value::Object(map) => {
                let mut fields = BTreeMap::new();
                let known = NIC.keys.iter().map(|key| key.name);
                let known: Vec<&str> = known.chain(NIC_MODELS.iter().copied()).collect();
                for (name, value) in map.iter().filter(|(_, v)| !v.is_null()) {
                    dict::check_key(name, &known).map_err(|e| format!("{key}: {e}"))?;
                    let value = dict::part(name, value).map_err(|e| format!("{key}: {e}"))?;
                    fields.insert(name.clone(), value);
                }
                fields
            }
            other => {
                return Err(format!("{key}: a NIC is a text or a dict, not {other}"));
            }
        };
        Self::from_fields(fields).map_err(|problem| format!("{key}: {problem}"))
    }

    /// The NIC, unless PVE would refuse it.
    pub fn checked(self) -> Result<Self, String> {
        if let Some(mac) = &self.mac {
            validation::mac(mac)?;
        }
        for key in NIC.keys {
            let name = key.name;
            if let Some(value) = self.options.get(name) {
                kind::check(&key.kind, value)
                    .map_err(|expected| format!("{name} must be {expected} (got '{value}')"))?;
            }
        }
        Ok(self)
    }

    fn from_fields(mut fields: BTreeMap<String, String>) -> Result<Self, String> {
        let mut model = fields.remove("model");
        let mut mac = fields.remove("macaddr");
        for known in NIC_MODELS.iter().copied() {
            if let Some(address) = fields.remove(known)
                && (model.replace(known.into()).is_some() || mac.replace(address).is_some())
            {
                return Err("the model or the MAC address is given twice".into());
            }
        }
        let model = model.unwrap_or_else(|| "virtio".into());
        if !NIC_MODELS.contains(&model.as_str()) {
            let known = NIC_MODELS.join(", ");
            return Err(format!("the model {model} is not one of PVE's: {known}"));
        }
        let flags = NIC.keys.iter();
        for key in flags.filter(|key| matches!(key.kind, Kind::Flag)) {
            let key = key.name;
            match fields.get_mut(key).map(|v| property::parse_bool(v)) {
                Some(Some(false)) => {
                    fields.remove(key);
                }
                Some(Some(true)) => {
                    fields.insert(key.into(), "1".into());
                }
                _ => {}
            }
        }
        Ok(Self {
            model,
            mac: mac.map(|mac| mac.to_ascii_uppercase()),
            options: fields,
        })
    }

    /// The bridge it is connected to.
    pub fn bridge(&self) -> Option<&str> {
        self.options.get("bridge").map(String::as_str)
    }

    /// The text that makes this NIC, for PVE.
    pub fn to_text(&self) -> String {
        let mut parts = PropertyString::new(Some("model"));
        match &self.mac {
            Some(mac) => parts.set(&self.model, mac),
            None => parts.set("model", &self.model),
        }
        for (key, value) in &self.options {
            parts.set(key, value);
        }
        parts.to_string()
    }

    /// Whether both mean the same NIC: spelling and the order of VLANs make no difference.
    pub fn same(&self, other: &Nic) -> bool {
        let meant = |nic: &Nic| -> BTreeMap<String, String> {
            let options = nic.options.iter();
            options
                .map(|(key, value)| (key.clone(), meaning(key, value)))
                .collect()
        };
        self.model == other.model && self.mac == other.mac && meant(self) == meant(other)
    }

    /// This description with the MAC address of the NIC that is there, unless it names one itself:
    /// PVE makes up a new address for every text without one.
    pub fn keeping_mac(&self, have: &Nic) -> Nic {
        Nic {
            mac: self.mac.clone().or_else(|| have.mac.clone()),
            ..self.clone()
        }
    }
}

/// A value in one spelling.
fn meaning(key: &str, value: &str) -> String {
    match key {
        "trunks" => {
            let mut vlans: Vec<&str> = value.split(';').map(str::trim).collect();
            vlans.sort_unstable();
            vlans.dedup();
            vlans.join(";")
        }
        "tag" | "mtu" | "queues" | "rate" => match value.parse::<f64>() {
            Ok(number) => number.to_string(),
            Err(_) => value.to_owned(),
        },
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nic(value: Value) -> Nic {
        Nic::parse("net0", &value).unwrap()
    }

    #[test]
    fn texts_and_dicts_say_the_same() {
        for (dict, text) in [
            (json!({"bridge": "vmbr0"}), "virtio,bridge=vmbr0"),
            (
                json!({"model": "e1000", "bridge": "vmbr0", "firewall": true, "tag": 7}),
                "e1000,bridge=vmbr0,firewall=1,tag=7",
            ),
            (
                json!({"bridge": "vmbr0", "macaddr": "bc:24:11:00:00:01"}),
                "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            ),
        ] {
            assert_eq!(nic(dict.clone()), nic(json!(text)), "{dict}");
            assert_eq!(nic(dict).to_text(), text);
        }
        assert_eq!(
            nic(json!("virtio,bridge=vmbr0,firewall=0,link_down=no")),
            nic(json!("virtio,bridge=vmbr0"))
        );
    }

    #[test]
    fn vlans_are_a_list_or_a_text() {
        let list = nic(json!({"bridge": "vmbr0", "trunks": [10, 20]}));
        assert_eq!(list.to_text(), "virtio,bridge=vmbr0,trunks=10;20");
        assert!(list.same(&nic(json!("virtio,bridge=vmbr0,trunks=20;10"))));
        assert!(!list.same(&nic(json!("virtio,bridge=vmbr0,trunks=20"))));
        assert!(nic(json!("virtio,rate=1.0")).same(&nic(json!("virtio,rate=1"))));
    }

    #[test]
    fn the_address_is_kept() {
        let have = nic(json!("virtio=BC:24:11:00:00:01,bridge=vmbr0"));
        let want = nic(json!("virtio,bridge=vmbr0"));
        assert_eq!(want.keeping_mac(&have), have);
        let other = nic(json!("virtio=BC:24:11:00:00:02,bridge=vmbr0"));
        assert_eq!(other.keeping_mac(&have), other);
    }

    #[test]
    fn mistakes_are_explained() {
        for (value, part) in [
            (
                json!("nope,bridge=vmbr0"),
                "the model nope is not one of PVE's",
            ),
            (json!({"bridge": [["a"]]}), "bridge: expected text"),
            (
                json!({"bridge": "vmbr0", "trunks": "10,20"}),
                "trunks: \"10,20\" contains",
            ),
            (json!({"bridge": "vmbr0,firewall=0"}), "bridge: "),
            (json!({"bridge": {"a": 1}}), "bridge: expected text"),
            (json!(7), "a text or a dict"),
        ] {
            let error = Nic::parse("net0", &value).unwrap_err();
            assert!(
                error.starts_with("net0: ") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn what_pve_refuses_is_refused_before() {
        for (text, part) in [
            (
                "virtio,bridge=vmbr0,trunks=10,20",
                "values of one key are joined by ';'",
            ),
            ("virtio,trunks=a", "trunks must be numbers"),
            (
                "virtio,mtu=99999",
                "mtu must be between 1 and 65520 (got '99999')",
            ),
            ("virtio,queues=100", "queues must be between"),
            ("virtio,rate=10M", "rate must be a number"),
            ("virtio,firewall=maybe", "firewall must be a boolean"),
            ("virtio,tag=4095", "tag must be between 1 and 4094"),
            ("virtio,bridge=a;b", "bridge must be the name of one bridge"),
        ] {
            let error = Nic::parse("net0", &json!(text)).and_then(Nic::checked);
            let error = error.unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
