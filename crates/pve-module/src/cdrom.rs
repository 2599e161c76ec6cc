//! CD-ROM drives, attached and detached without disturbing the boot order.
//!
//! PVE appends every CD-ROM drive that is set to `boot`, starting from the current order even when
//! another one is pending. So the order that is meant is read first and put back afterwards.

use std::time::Duration;

use deadline::Deadline;
use pve_client::property::PropertyString;
use pve_client::{Client, Error, Params, Pending};

/// How often the boot order is put back before a lost answer is an error.
const ATTEMPTS: u32 = 3;
/// The pause before what there is is looked at after a lost answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Set `drive` (`ide2`, `sata0`, ...) to the volume or property string `medium`
/// (`local:iso/x.iso`, `local:cloudinit`), as a CD-ROM. On a running VM a new ide or sata drive
/// comes with the next stop and start; a change of medium takes effect at once.
///
/// # Errors
/// Those of the API.
pub async fn attach(
    client: &Client,
    node: &str,
    vmid: u32,
    drive: &str,
    medium: &str,
    deadline: &Deadline,
) -> Result<(), Error> {
    let boot = boot_order(&client.vm_pending(node, vmid, deadline).await?);
    let value = if medium.contains("media=") {
        medium.to_string()
    } else {
        format!("{medium},media=cdrom")
    };
    let set = client
        .vm_configure(node, vmid, &Params::new().with(drive, value), deadline)
        .await;
    match set {
        Err(error) if !error.may_have_happened() => Err(error),
        // Also when the answer was lost: afterwards nobody knows the order any more.
        settled => {
            restore_boot(client, node, vmid, boot, deadline).await?;
            settled
        }
    }
}

/// Eject what is in `drive` and remove the drive. On a running VM the medium is gone at once and
/// an ide or sata drive with the next stop and start. Returns whether there was anything to do.
///
/// # Errors
/// Those of the API.
pub async fn detach(
    client: &Client,
    node: &str,
    vmid: u32,
    drive: &str,
    deadline: &Deadline,
) -> Result<bool, Error> {
    let before = client.vm_pending(node, vmid, deadline).await?;
    let Some(line) = before.iter().find(|line| line.key == drive) else {
        return Ok(false);
    };
    let mut boot = boot_order(&before);
    boot.retain(|name| name != drive);
    let empty = |value: &Option<serde_json::Value>| {
        value
            .as_ref()
            .and_then(|v| v.as_str())
            .is_none_or(|text| text.starts_with("none"))
    };
    if line.delete.is_some() && empty(&line.value) {
        return Ok(false);
    }
    // An eject is immediate even when the guest has it mounted; a delete alone leaves the medium
    // in until the next stop.
    if !empty(&line.value) {
        client
            .vm_configure(
                node,
                vmid,
                &Params::new().with(drive, "none,media=cdrom"),
                deadline,
            )
            .await?;
    }
    if let Err(error) = client
        .vm_configure(node, vmid, &Params::new().with("delete", drive), deadline)
        .await
    {
        // A drive of the running boot order cannot be unplugged, and its delete is left pending.
        let pending = error
            .errors()
            .is_some_and(|errors| errors.values().any(|text| text.contains("hotplug problem")));
        if !pending {
            return Err(error);
        }
    }
    restore_boot(client, node, vmid, boot, deadline).await?;
    Ok(true)
}

/// The devices of `boot` after the next start, in order. Empty when nothing boots or `boot` is of
/// the old kind without `order=`.
pub fn boot_order(pending: &[Pending]) -> Vec<String> {
    let line = pending
        .iter()
        .find(|line| line.key == "boot" && line.delete.is_none());
    let value = line
        .and_then(|line| line.pending.as_ref().or(line.value.as_ref()))
        .and_then(|value| value.as_str());
    let Some(Ok(parsed)) = value.map(|text| PropertyString::parse(text, Some("legacy"))) else {
        return Vec::new();
    };
    parsed
        .get("order")
        .unwrap_or_default()
        .split(';')
        .filter(|name| !name.is_empty())
        .map(str::to_string)
        .collect()
}

/// Put the order back, also when an answer is lost on the way: afterwards nobody knows it any more.
async fn restore_boot(
    client: &Client,
    node: &str,
    vmid: u32,
    boot: Vec<String>,
    deadline: &Deadline,
) -> Result<(), Error> {
    let mut attempts = ATTEMPTS;
    // No order that could be put back: there was none.
    while !boot.is_empty() && boot_order(&client.vm_pending(node, vmid, deadline).await?) != boot {
        let order = Params::new().with("boot", format!("order={}", boot.join(";")));
        attempts -= 1;
        match client.vm_configure(node, vmid, &order, deadline).await {
            Err(error)
                if error.may_have_happened() && attempts > 0 && deadline.sleep(PAUSE).await => {}
            settled => return settled,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order(lines: serde_json::Value) -> Vec<String> {
        boot_order(&serde_json::from_value::<Vec<Pending>>(lines).unwrap())
    }

    #[test]
    fn the_order_that_is_meant_is_the_pending_one() {
        assert_eq!(
            order(json!([{"key": "boot", "value": "order=ide2;scsi0"}])),
            ["ide2", "scsi0"]
        );
        assert_eq!(
            order(json!([{"key": "boot", "value": "order=ide2;scsi0", "pending": "order=scsi0"}])),
            ["scsi0"]
        );
        assert!(order(json!([{"key": "boot", "value": " "}])).is_empty());
        assert!(order(json!([{"key": "boot", "value": "cdn"}])).is_empty());
        assert!(order(json!([{"key": "memory", "value": "512"}])).is_empty());
    }
}
