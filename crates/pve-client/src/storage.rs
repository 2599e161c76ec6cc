//! Storages and what is on them.

use std::collections::BTreeSet;

use deadline::Deadline;
use serde::Deserialize;
use serde_json::Value;

use crate::guests::{flag, number};
use crate::params::encode;
use crate::{Client, Error, TaskResult, Volid};

/// A storage as one node sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct Storage {
    /// Its identifier.
    pub storage: String,
    /// What it may hold, separated by commas: `iso,vztmpl,images`.
    #[serde(default)]
    pub content: String,
    /// Whether it is enabled.
    #[serde(default = "yes", deserialize_with = "flag")]
    pub enabled: bool,
    /// Whether the node can use it now.
    #[serde(default, deserialize_with = "flag")]
    pub active: bool,
    /// Whether all nodes see the same files.
    #[serde(default, deserialize_with = "flag")]
    pub shared: bool,
    /// Free space in bytes, when it is active.
    #[serde(default, deserialize_with = "number")]
    pub avail: Option<u64>,
    /// Its type, such as `dir` or `zfspool`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

fn yes() -> bool {
    true
}

impl Storage {
    /// Whether it may hold `content` (`iso`, `images`, ...).
    pub fn holds(&self, content: &str) -> bool {
        self.content.split(',').any(|known| known == content)
    }
}

/// A volume on a storage.
#[derive(Debug, Clone, Deserialize)]
pub struct StorageContent {
    /// Its identifier.
    pub volid: String,
    /// Its exact size in bytes.
    #[serde(default, deserialize_with = "number")]
    pub size: Option<u64>,
    /// When its file was last changed, in seconds since 1970.
    #[serde(default, deserialize_with = "number")]
    pub ctime: Option<u64>,
    /// `iso`, `images`, ...
    #[serde(default)]
    pub content: String,
}

impl Client {
    /// The storages of a node that the caller may see, with what they hold; disabled ones too.
    pub async fn storages(
        &self,
        node: &str,
        content: Option<&str>,
        deadline: &Deadline,
    ) -> Result<Vec<Storage>, Error> {
        let query: Vec<_> = content
            .map(|content| ("content", content.to_string()))
            .into_iter()
            .collect();
        self.read_as(
            &format!("/nodes/{}/storage", encode(node)),
            &query,
            deadline,
        )
        .await
    }

    /// What is on a storage. While a file is being copied it is listed already, with the size it
    /// has so far.
    pub async fn content(
        &self,
        node: &str,
        storage: &str,
        content: Option<&str>,
        deadline: &Deadline,
    ) -> Result<Vec<StorageContent>, Error> {
        let query: Vec<_> = content
            .map(|content| ("content", content.to_string()))
            .into_iter()
            .collect();
        self.read_as(
            &format!(
                "/nodes/{}/storage/{}/content",
                encode(node),
                encode(storage)
            ),
            &query,
            deadline,
        )
        .await
    }

    /// Where a volume of a storage is on the node, when PVE says so.
    ///
    /// # Errors
    /// As [`Client::get`]; a volume that is not there is one.
    pub async fn volume_path(
        &self,
        node: &str,
        volid: &Volid,
        deadline: &Deadline,
    ) -> Result<Option<String>, Error> {
        let data = self.get(&volume_url(node, volid), &[], deadline).await?;
        Ok(data.get("path").and_then(Value::as_str).map(str::to_string))
    }

    /// Delete a volume and wait until it is gone. Deleting an ISO that is not there succeeds.
    pub async fn delete_volume(
        &self,
        node: &str,
        volid: &Volid,
        deadline: &Deadline,
    ) -> Result<Option<TaskResult>, Error> {
        self.delete_task(&volume_url(node, volid), &[], deadline, |_| ())
            .await
    }

    /// The privileges that the caller has on `path`, such as `/storage/local`.
    pub async fn privileges(
        &self,
        path: &str,
        deadline: &Deadline,
    ) -> Result<BTreeSet<String>, Error> {
        let data = self
            .get(
                "/access/permissions",
                &[("path", path.to_string())],
                deadline,
            )
            .await?;
        let granted = data.get(path).and_then(Value::as_object);
        Ok(granted
            .map(|names| names.keys().cloned().collect())
            .unwrap_or_default())
    }
}

fn volume_url(node: &str, volid: &Volid) -> String {
    format!(
        "/nodes/{}/storage/{}/content/{}",
        encode(node),
        encode(&volid.storage),
        encode(&volid.to_string())
    )
}
