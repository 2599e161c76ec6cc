//! CD-ROM drives, attached and detached without disturbing the boot order.
//!
//! PVE appends every CD-ROM drive that is set to `boot`, starting from the current order even when
//! another one is pending. So the order that is meant is read first and put back afterwards.

use std::time::Duration;

use pve_client::property::PropertyString;
use pve_client::{Params, Pending};

use crate::guard::{GuardedVm, WriteError};

/// How often the boot order is put back before a lost answer is an error.
const ATTEMPTS: u32 = 3;
/// The pause before what there is is looked at after a lost answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Set `drive` (`ide2`, `sata0`, ...) to the volume or property string `medium`
/// (`local:iso/x.iso`, `local:cloudinit`), as a CD-ROM. On a running VM a new ide or sata drive
/// comes with the next stop and start; a change of medium takes effect at once.
///
/// # Errors
/// Those of the API, and the guard's refusal.
pub async fn attach(vm: &GuardedVm<'_>, drive: &str, medium: &str) -> Result<(), WriteError> {
    let boot = boot_order(&pending(vm).await?);
    let value = if medium.contains("media=") {
        medium.to_string()
    } else {
        format!("{medium},media=cdrom")
    };
    match vm.configure(&Params::new().with(drive, value)).await {
        Err(error) if !error.may_have_happened() => Err(error),
        // Also when the answer was lost: afterwards nobody knows the order any more.
        settled => {
            restore_boot(vm, boot).await?;
            settled
        }
    }
}

/// Eject what is in `drive` and remove the drive. On a running VM the medium is gone at once and
/// an ide or sata drive with the next stop and start. Returns whether there was anything to do.
///
/// # Errors
/// Those of the API, and the guard's refusal.
pub async fn detach(vm: &GuardedVm<'_>, drive: &str) -> Result<bool, WriteError> {
    let before = pending(vm).await?;
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
        vm.configure(&Params::new().with(drive, "none,media=cdrom"))
            .await?;
    }
    if let Err(error) = vm.configure(&Params::new().with("delete", drive)).await {
        // A drive of the running boot order cannot be unplugged, and its delete is left pending.
        let pending = matches!(&error, WriteError::Api(error) if error
            .errors()
            .is_some_and(|errors| errors.values().any(|text| text.contains("hotplug problem"))));
        if !pending {
            return Err(error);
        }
    }
    restore_boot(vm, boot).await?;
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
async fn restore_boot(vm: &GuardedVm<'_>, boot: Vec<String>) -> Result<(), WriteError> {
    let mut attempts = ATTEMPTS;
    // No order that could be put back: there was none.
    while !boot.is_empty() && boot_order(&pending(vm).await?) != boot {
        let order = Params::new().with("boot", format!("order={}", boot.join(";")));
        attempts -= 1;
        match vm.configure(&order).await {
            Err(error)
                if error.may_have_happened() && attempts > 0 && vm.deadline.sleep(PAUSE).await => {}
            settled => return settled,
        }
    }
    Ok(())
}

async fn pending(vm: &GuardedVm<'_>) -> Result<Vec<Pending>, WriteError> {
    let lines = vm.client.vm_pending(vm.node, vm.vmid, vm.deadline).await?;
    Ok(lines)
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
