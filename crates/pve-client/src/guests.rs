//! Nodes and virtual machines: thin, typed reads.

use deadline::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::client::Call;
use crate::params::encode;
use crate::{Client, Error, Params};

/// A node of the cluster.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// `online`, `offline`, or `unknown` to callers without Sys.Audit.
    #[serde(default)]
    pub status: String,
}

/// A VM in a node's list.
#[derive(Debug, Clone, Deserialize)]
pub struct Vm {
    /// Its number.
    #[serde(deserialize_with = "vmid")]
    pub vmid: u32,
    /// Its name. PVE makes up `VM 101` for one without.
    #[serde(default)]
    pub name: String,
    /// `running` or `stopped`.
    #[serde(default)]
    pub status: String,
    /// Its tags, separated by `;`.
    #[serde(default)]
    pub tags: Option<String>,
    /// Whether it is a template.
    #[serde(default, deserialize_with = "flag")]
    pub template: bool,
    /// The lock it is under, such as `create` or `backup`.
    #[serde(default)]
    pub lock: Option<String>,
    /// The memory of its configuration in bytes, whether it runs or not.
    #[serde(default, deserialize_with = "number")]
    pub maxmem: Option<u64>,
    /// The memory it takes now, in bytes.
    #[serde(default, deserialize_with = "number")]
    pub mem: Option<u64>,
}

/// What a VM does now.
#[derive(Debug, Clone, Deserialize)]
pub struct VmStatus {
    /// `running` or `stopped`.
    pub status: String,
    /// QEMU's own word, such as `paused`.
    #[serde(default)]
    pub qmpstatus: Option<String>,
    /// The lock it is under.
    #[serde(default)]
    pub lock: Option<String>,
    /// Seconds since its QEMU process began; 0 when stopped.
    #[serde(default, deserialize_with = "number")]
    pub uptime: Option<u64>,
    /// Process number of QEMU.
    #[serde(default, deserialize_with = "number")]
    pub pid: Option<u64>,
}

/// A line of a VM's configuration with what is yet to come of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Pending {
    /// The option.
    pub key: String,
    /// Its value now.
    #[serde(default)]
    pub value: Option<Value>,
    /// Its value after the next stop and start.
    #[serde(default)]
    pub pending: Option<Value>,
    /// 1: deleted at the next stop; 2: by force.
    #[serde(default, deserialize_with = "number")]
    pub delete: Option<u64>,
}

impl Pending {
    /// Whether the next start brings a change.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some() || self.delete.is_some()
    }
}

impl Client {
    /// GET and decode.
    pub async fn read_as<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        deadline: &Deadline,
    ) -> Result<T, Error> {
        self.call(Call::get(path, query), deadline).await
    }

    /// The nodes of the cluster.
    pub async fn nodes(&self, deadline: &Deadline) -> Result<Vec<Node>, Error> {
        self.read_as("/nodes", &[], deadline).await
    }

    /// The VMs on a node that the caller may see. Current, unlike `cluster/resources`.
    pub async fn vms(&self, node: &str, deadline: &Deadline) -> Result<Vec<Vm>, Error> {
        self.read_as(&format!("/nodes/{}/qemu", encode(node)), &[], deadline)
            .await
    }

    /// A VM's configuration with pending changes as if made, or without them (`current`).
    pub async fn vm_config(
        &self,
        node: &str,
        vmid: u32,
        current: bool,
        deadline: &Deadline,
    ) -> Result<Map<String, Value>, Error> {
        let query = if current {
            vec![("current", "1".to_string())]
        } else {
            Vec::new()
        };
        self.read_as(&format!("{}/config", vm_path(node, vmid)), &query, deadline)
            .await
    }

    /// A VM's configuration with current and pending values.
    pub async fn vm_pending(
        &self,
        node: &str,
        vmid: u32,
        deadline: &Deadline,
    ) -> Result<Vec<Pending>, Error> {
        self.read_as(&format!("{}/pending", vm_path(node, vmid)), &[], deadline)
            .await
    }

    /// Change a VM's configuration at once (PUT), waiting out locks.
    pub async fn vm_configure(
        &self,
        node: &str,
        vmid: u32,
        params: &Params,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        self.put(&format!("{}/config", vm_path(node, vmid)), params, deadline)
            .await
            .map(|_| ())
    }

    /// What a VM does now.
    pub async fn vm_status(
        &self,
        node: &str,
        vmid: u32,
        deadline: &Deadline,
    ) -> Result<VmStatus, Error> {
        self.read_as(
            &format!("{}/status/current", vm_path(node, vmid)),
            &[],
            deadline,
        )
        .await
    }

    /// A VMID that is free now. It is not a reservation: another caller may get the same one.
    pub async fn next_id(&self, deadline: &Deadline) -> Result<u32, Error> {
        let data = self.get("/cluster/nextid", &[], deadline).await?;
        vmid(data).map_err(|e: serde_json::Error| Error::Unexpected {
            action: "GET /cluster/nextid".into(),
            detail: e.to_string(),
        })
    }
}

/// `/nodes/NODE/qemu/VMID`.
pub(crate) fn vm_path(node: &str, vmid: u32) -> String {
    format!("/nodes/{}/qemu/{vmid}", encode(node))
}

/// A number that PVE may send as a string.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number
            .as_u64()
            .or_else(|| number.as_f64().filter(|f| *f >= 0.0).map(|f| f as u64)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(on) => Some(u64::from(on)),
        _ => None,
    })
}

/// A flag that PVE may send as 1, "1" or true.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(number(deserializer)?.is_some_and(|number| number != 0))
}

fn vmid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    number(deserializer)?
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| serde::de::Error::custom("a VMID is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_flags_in_any_dress() {
        let vm: Vm =
            serde_json::from_str(r#"{"vmid":"101","name":"a","status":"running","template":"1"}"#)
                .unwrap();
        assert_eq!((vm.vmid, vm.template), (101, true));
        let vm: Vm = serde_json::from_str(r#"{"vmid":101,"template":""}"#).unwrap();
        assert!(!vm.template);
        assert!(serde_json::from_str::<Vm>(r#"{"vmid":"x"}"#).is_err());
    }

    #[test]
    fn a_storage_without_an_enabled_key_is_enabled() {
        let storage: crate::Storage =
            serde_json::from_str(r#"{"storage":"local","content":"iso,images"}"#).unwrap();
        assert!(storage.enabled && storage.holds("iso") && !storage.holds("is"));
    }
}
