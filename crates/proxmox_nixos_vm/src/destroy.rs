//! Removing a VM with the disks it owns, and nothing else.

use std::time::Duration;

use ansible_module::Failure;

use crate::power;
use crate::site::{Site, failed};
use crate::state::State;

/// The pause between two looks at whether the VM is gone.
const LOOK: Duration = Duration::from_millis(500);

/// Why the VM must not be removed.
pub fn refusal(vm: &State, force: bool) -> Option<Failure> {
    let object = vm.object();
    if vm.protected() {
        let msg = format!("{object} on {} is protected and is not removed", vm.node);
        return Some(
            Failure::new("protected", msg)
                .object(object)
                .hint("set protection: false first, with state: present"),
        );
    }
    if vm.running() && !force {
        let msg = format!("{object} on {} is running and is not removed", vm.node);
        return Some(
            Failure::new("running", msg)
                .object(object)
                .hint("stop it first with state: stopped, or set force: true"),
        );
    }
    None
}

/// Remove the VM, stopping it hard first if it runs. Volumes that only bear its VMID but are not in its
/// configuration stay, as do ISOs.
pub async fn destroy(site: &Site<'_>, vm: &State) -> Result<(), Failure> {
    let object = vm.object();
    if vm.running() {
        power::stop(site, vm).await?;
    }
    site.says("destroy", &object);
    let path = format!("/nodes/{}/qemu/{}", vm.node, vm.vmid);
    let query = [
        ("purge", "1".to_owned()),
        ("destroy-unreferenced-disks", "0".to_owned()),
    ];
    loop {
        let watch = site.watches("destroy", &object);
        let lost = match site
            .client
            .delete_task(&path, &query, site.deadline, watch)
            .await
        {
            Ok(_) => return Ok(()),
            // Somebody else was faster, or our own call whose answer was lost.
            Err(error) if error.not_found() => return Ok(()),
            Err(error) if error.may_have_happened() => error,
            Err(error) => return Err(failed("remove", &object, error)),
        };
        // Removing is asked for again only while the VM is there: there is nothing to do twice.
        if gone(site, vm).await? {
            return Ok(());
        }
        if !site.deadline.sleep(LOOK).await {
            return Err(failed("remove", &object, lost));
        }
    }
}

async fn gone(site: &Site<'_>, vm: &State) -> Result<bool, Failure> {
    let vms = site.client.vms(&vm.node, site.deadline).await;
    let vms = vms.map_err(|e| failed("list the VMs of node", &vm.node, e))?;
    Ok(!vms.iter().any(|other| other.vmid == vm.vmid))
}
