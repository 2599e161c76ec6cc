//! Which VMs have an ISO in a drive.
//!
//! Proxmox VE has no list of who uses a volume, so each VM costs a request. Hosts that run in parallel on this controller
//! share a reading: one reads, and whoever waited for it meanwhile reads once more for all of them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ansible_module::{Failure, FailureKind};
use futures_util::StreamExt;
use pve_client::sha256_bytes;
use pve_module::{Context, Lock, doing};
use pve_schema::is_cdrom_drive;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Each ISO that is in a drive, with the numbers of the VMs that have it.
pub type Holders = BTreeMap<String, Vec<u32>>;

/// What was read, as it is left for the next holder of the lock.
#[derive(Debug, Serialize, Deserialize)]
struct Reading {
    /// When it began, since 1970.
    began: Duration,
    holders: Holders,
}

impl Reading {
    /// Whether it is as good as one's own for who `arrived` then: it began later, and not in the future.
    fn serves(&self, arrived: Duration, now: Duration) -> bool {
        arrived <= self.began && self.began <= now
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The ISOs in drives of all VMs. A VM that the caller may not see, that is gone meanwhile, or
/// whose node is down and cannot be asked, counts as having none.
///
/// # Errors
/// The API's, and kind `timeout`.
pub async fn holders(context: &Context<'_>) -> Result<Holders, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let arrived = now();
    // Another caller may see other VMs.
    let key = format!("{} {}", client.address(), client.caller());
    let name = format!("holders-{}", &sha256_bytes(key.as_bytes())[..32]);
    let mut lock = match Lock::acquire(&name, deadline).await {
        Ok(lock) => lock,
        Err(failure) if failure.kind == FailureKind::Timeout => return Err(failure),
        // No file to lock.
        Err(_) => return read(context).await,
    };
    let left = lock.note();
    if let Some(left) = left.and_then(|text| serde_json::from_str::<Reading>(&text).ok())
        && left.serves(arrived, now())
    {
        return Ok(left.holders);
    }
    let began = now();
    let holders = read(context).await?;
    let reading = Reading { began, holders };
    if let Ok(text) = serde_json::to_string(&reading) {
        // What cannot be left is read again.
        let _ = lock.leave_note(&text);
    }
    Ok(reading.holders)
}

async fn read(context: &Context<'_>) -> Result<Holders, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    // Not only the VMs: the nodes among the rest tell which of them are down.
    let entries: Vec<Value> = client
        .read_as("/cluster/resources", &[], deadline)
        .await
        .map_err(doing("list the cluster's VMs"))?;
    fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
        entry.get(key).and_then(Value::as_str).unwrap_or_default()
    }
    let down: Vec<&str> = entries
        .iter()
        .filter(|entry| text(entry, "type") == "node" && text(entry, "status") == "offline")
        .map(|entry| text(entry, "node"))
        .collect();
    let asked = |entry: &Value| {
        let number = u32::try_from(entry.get("vmid")?.as_u64()?).ok()?;
        let node = text(entry, "node");
        let asked = text(entry, "type") == "qemu" && !down.contains(&node);
        asked.then(|| (node.to_owned(), number))
    };
    let vms: Vec<(String, u32)> = entries.iter().filter_map(asked).collect();
    let configs = vms.iter().map(|(node, number)| async move {
        // A node that is down is asked again and again.
        let limit = deadline.shorter(LONGEST_READ);
        let config = client.vm_config(node, *number, true, &limit).await;
        (*number, config)
    });
    let mut configs = futures_util::stream::iter(configs).buffer_unordered(READS_AT_ONCE);
    let mut holders = Holders::new();
    while let Some((number, config)) = configs.next().await {
        let config = match config {
            Ok(config) => config,
            // 595: the caller may not see that the node is down.
            Err(error) if error.not_found() || matches!(error.status(), Some(403 | 595 | 596)) => {
                continue;
            }
            Err(error) => {
                return Err(doing(format!("read the configuration of VM {number}"))(
                    error,
                ));
            }
        };
        let values = config.iter().filter(|(key, _)| is_cdrom_drive(key));
        for value in values.filter_map(|(_, value)| value.as_str()) {
            let volume = value.split(',').next().unwrap_or_default();
            let volume = volume.strip_prefix("file=").unwrap_or(volume);
            if volume.contains(":iso/") {
                holders.entry(volume.to_owned()).or_default().push(number);
            }
        }
    }
    Ok(holders)
}

/// How many configurations are asked for at the same time.
const READS_AT_ONCE: usize = 8;
/// How long one of them may take.
const LONGEST_READ: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_later_serves() {
        let at = Duration::from_secs;
        let reading = Reading {
            began: at(10),
            holders: Holders::new(),
        };
        assert!(reading.serves(at(9), at(12)) && reading.serves(at(10), at(10)));
        // It began before, or the clock was set back since.
        assert!(!reading.serves(at(11), at(12)) && !reading.serves(at(5), at(9)));
    }
}
