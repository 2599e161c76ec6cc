//! What a VM is now.

use std::collections::BTreeSet;

use ansible_module::Failure;
use pve_client::Pending;
use serde_json::{Map, Value, json};

use crate::config::{Config, normalise, text};
use crate::context::{Context, failed};

/// A VM as PVE shows it.
#[derive(Debug, Clone)]
pub struct State {
    /// Its ID.
    pub vmid: u32,
    /// The node it is on.
    pub node: String,
    /// Its configuration, with pending changes as if they were made.
    pub config: Config,
    /// The configuration's digest, which guards against changes by others.
    pub digest: Option<String>,
    /// `running` or `stopped`.
    pub status: String,
    /// Changes that wait for the next stop and start.
    pub pending: Vec<Pending>,
    /// Whether this very task is known to have made it.
    pub made_here: bool,
}

impl State {
    /// Read the VM.
    pub async fn read(context: &Context<'_>, node: &str, vmid: u32) -> Result<Self, Failure> {
        let status = context.client.vm_status(node, vmid, context.deadline).await;
        let status = status
            .map_err(failed("read", &format!("VM {vmid}")))?
            .status;
        Self::with_status(context, node, vmid, status).await
    }

    /// Read a VM that cannot run: a template, or a VM that was made a moment ago.
    pub async fn read_stopped(
        context: &Context<'_>,
        node: &str,
        vmid: u32,
    ) -> Result<Self, Failure> {
        Self::with_status(context, node, vmid, "stopped".to_owned()).await
    }

    async fn with_status(
        context: &Context<'_>,
        node: &str,
        vmid: u32,
        status: String,
    ) -> Result<Self, Failure> {
        let object = format!("VM {vmid}");
        let wrong = failed("read", &object);
        let raw = context
            .client
            .vm_config(node, vmid, false, context.deadline)
            .await
            .map_err(wrong)?;
        let pending = if status == "running" {
            let all = context
                .client
                .vm_pending(node, vmid, context.deadline)
                .await
                .map_err(wrong)?;
            all.into_iter().filter(Pending::is_pending).collect()
        } else {
            // What waits for the start of a stopped VM needs no restart.
            Vec::new()
        };
        let digest = raw.get("digest").and_then(text::scalar);
        Ok(Self {
            vmid,
            node: node.to_owned(),
            config: config(&raw),
            digest,
            status,
            pending,
            made_here: false,
        })
    }

    /// Whether it runs.
    pub fn running(&self) -> bool {
        self.status == "running"
    }

    /// Its name; PVE shows `VM 101` where there is none.
    pub fn name(&self) -> String {
        self.config
            .get("name")
            .cloned()
            .unwrap_or_else(|| format!("VM {}", self.vmid))
    }

    /// What to call it in messages.
    pub fn object(&self) -> String {
        match self.config.get("name") {
            Some(name) => format!("VM {} ({name})", self.vmid),
            None => format!("VM {}", self.vmid),
        }
    }

    /// Whether the protection is on.
    pub fn protected(&self) -> bool {
        normalise::is_protected(&self.config)
    }

    /// Whether a configuration is this VM's, not one's that got its VMID later: PVE makes up a UUID and a generation ID
    /// for every VM.
    pub fn is_same(&self, other: &Config) -> bool {
        ["smbios1", "vmgenid"]
            .iter()
            .all(|key| self.config.get(*key) == other.get(*key))
    }

    /// Whether it is a template.
    pub fn is_template(&self) -> bool {
        let flag = self.config.get("template").map(String::as_str);
        flag.and_then(pve_client::property::parse_bool) == Some(true)
    }

    /// Its volumes that no drive uses, by their keys (`unused0`).
    fn unused(&self) -> Config {
        let unused = self.config.iter().filter(|(key, _)| {
            key.strip_prefix("unused")
                .is_some_and(pve_schema::syntax::is_index)
        });
        unused.map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Its tags.
    pub fn tags(&self) -> BTreeSet<String> {
        let text = self.config.get("tags").map(String::as_str);
        normalise::tags(text.unwrap_or_default())
    }

    /// The return values that describe the VM.
    pub fn values(&self) -> Map<String, Value> {
        let pending: Vec<Value> = self.pending.iter().map(pending).collect();
        let restart = !pending.is_empty();
        let config: Map<String, Value> = self
            .config
            .iter()
            .map(|(key, value)| (key.clone(), Value::String(masked(key, value).to_owned())))
            .collect();
        let values = json!({
            "exists": true, "vmid": self.vmid, "node": self.node, "name": self.name(), "status": self.status,
            "tags": self.tags(), "config": config, "pending": pending, "restart_required": restart,
            "template": self.is_template(), "unused_disks": self.unused(),
        });
        match values {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// The return values when there is no VM.
pub fn missing(name: Option<&str>, vmid: Option<u32>) -> Map<String, Value> {
    let mut values = Map::new();
    values.insert("exists".into(), false.into());
    values.insert("status".into(), "absent".into());
    values.insert("tags".into(), json!([]));
    values.insert("config".into(), json!({}));
    values.insert("pending".into(), json!([]));
    values.insert("restart_required".into(), false.into());
    values.extend(name.map(|name| ("name".into(), name.into())));
    values.extend(vmid.map(|vmid| ("vmid".into(), vmid.into())));
    values
}

/// The configuration as texts, less the digest.
pub fn config(raw: &Map<String, Value>) -> Config {
    raw.iter()
        .filter(|(key, _)| key.as_str() != "digest")
        .filter_map(|(key, value)| Some((key.clone(), text::scalar(value)?)))
        .collect()
}

fn pending(line: &Pending) -> Value {
    let shown = |value: &Option<Value>| {
        value
            .as_ref()
            .and_then(text::scalar)
            .map(|text| masked(&line.key, &text).to_owned())
    };
    json!({
        "key": line.key, "value": shown(&line.value), "pending": shown(&line.pending), "delete": line.delete.is_some(),
    })
}

/// Credentials are not returned.
fn masked<'a>(key: &str, value: &'a str) -> &'a str {
    if matches!(key, "cipassword" | "sshkeys") {
        "********"
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_vm_of_that_vmid_is_not_the_same() {
        let with = |config: Value| State {
            vmid: 100,
            node: "pve".into(),
            config: self::config(config.as_object().unwrap()),
            digest: None,
            status: "stopped".into(),
            pending: Vec::new(),
            made_here: false,
        };
        let vm = with(json!({"name": "a", "smbios1": "uuid=1", "vmgenid": "2", "memory": 128}));
        for (other, same) in [
            (
                json!({"name": "b", "smbios1": "uuid=1", "vmgenid": "2", "lock": "destroyed"}),
                true,
            ),
            (
                json!({"name": "a", "smbios1": "uuid=3", "vmgenid": "2"}),
                false,
            ),
            (
                json!({"name": "a", "smbios1": "uuid=1", "vmgenid": "4"}),
                false,
            ),
            (json!({"name": "a"}), false),
        ] {
            assert_eq!(vm.is_same(&with(other.clone()).config), same, "{other}");
        }
    }

    #[test]
    fn credentials_and_the_digest_are_not_returned() {
        let raw = json!({"memory": "512", "onboot": 1, "digest": "ab", "sshkeys": "ssh-ed25519%20A", "cipassword": "x"});
        let state = State {
            vmid: 101,
            node: "pve".into(),
            config: config(raw.as_object().unwrap()),
            digest: None,
            status: "running".into(),
            pending: serde_json::from_value(
                json!([{"key": "memory", "value": 512, "pending": "700"}]),
            )
            .unwrap(),
            made_here: false,
        };
        let values = Value::Object(state.values());
        assert_eq!(
            values["config"],
            json!({"cipassword": "********", "memory": "512", "onboot": "1", "sshkeys": "********"})
        );
        assert_eq!(
            values["pending"],
            json!([{"key": "memory", "value": "512", "pending": "700", "delete": false}])
        );
        assert_eq!(
            (values["restart_required"].clone(), values["name"].clone()),
            (json!(true), json!("VM 101"))
        );
    }
}
