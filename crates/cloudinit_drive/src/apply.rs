//! Doing what the plan says.

use ansible_module::Failure;
use pve_client::{Params, Upload, Volid};
use pve_module::{GuardedVm, cdrom, doing};

use crate::password;
use crate::plan::Plan;

/// Where the plan is carried out.
pub struct Target<'a> {
    /// The VM. One that is gone has no guard.
    pub vm: GuardedVm<'a>,
    /// The drive.
    pub drive: &'a str,
}

impl Target<'_> {
    /// Asks the guard before a write that is not one of the VM's configuration.
    async fn check(&self, what: &str) -> Result<(), Failure> {
        let checked = self.vm.check().await;
        checked.map(|_| ()).map_err(|error| error.doing(what))
    }
}

/// A seed ISO to upload.
pub struct Iso {
    /// Its volume.
    pub volid: Volid,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Carries the plan out; `done` says afterwards, also after a failure, what was.
pub async fn apply(
    target: &Target<'_>,
    plan: Plan,
    iso: Option<Iso>,
    password: Option<&str>,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    let Target { vm, drive } = target;
    let GuardedVm {
        client,
        node,
        vmid,
        deadline,
        ..
    } = *vm;
    if let Some(Iso { volid, bytes }) = iso.filter(|_| plan.upload) {
        target.check("upload the seed").await?;
        upload(vm, &volid, bytes).await?;
        done.push(format!("uploaded {volid}"));
    }
    clear(vm, &plan, done).await?;
    for old in &plan.detach {
        cdrom::detach(vm, old).await.map_err(|error| {
            error.doing(format!("remove the cloud-init drive {old} of VM {vmid}"))
        })?;
        done.push(format!("removed {old}"));
    }
    if let Some(medium) = &plan.attach {
        cdrom::attach(vm, drive, medium)
            .await
            .map_err(|error| error.doing(format!("attach {medium} to {drive} of VM {vmid}")))?;
        done.push(format!("attached {medium} as {drive}"));
    }
    configure(vm, &plan, password, done).await?;
    if plan.regenerate {
        target.check("write the cloud-init drive anew").await?;
        client
            .put(
                &format!("/nodes/{node}/qemu/{vmid}/cloudinit"),
                &Params::new(),
                deadline,
            )
            .await
            .map_err(doing(format!(
                "have Proxmox VE write the cloud-init drive of VM {vmid}"
            )))?;
        done.push("wrote the cloud-init drive anew".to_owned());
    }
    for volid in &plan.delete {
        target.check("delete the seed").await?;
        client
            .delete_volume(node, volid, deadline)
            .await
            .map_err(|error| undeletable(volid, error))?;
        done.push(format!("deleted {volid}"));
    }
    Ok(())
}

/// Uploads the ISO and waits until it is on the storage; Proxmox VE compares its checksum.
async fn upload(vm: &GuardedVm<'_>, volid: &Volid, bytes: Vec<u8>) -> Result<(), Failure> {
    let uploading = || doing(format!("upload the seed {volid}"));
    let upload = Upload::iso_bytes(volid.file_name(), bytes);
    let task = vm
        .client
        .upload(vm.node, &volid.storage, &upload, vm.deadline, |_, _| ())
        .await
        .map_err(uploading())?;
    vm.client
        .task(&task, vm.deadline, |_| ())
        .await
        .map_err(uploading())?;
    Ok(())
}

/// Removes options. On its own, because Proxmox VE takes no parameter both ways, and first of all: a stale secret goes even
/// if a new value is refused, and while the native drive is there that tells the next run what an interrupted one left.
async fn clear(vm: &GuardedVm<'_>, plan: &Plan, done: &mut Vec<String>) -> Result<(), Failure> {
    if !plan.clear.is_empty() {
        let keys = plan.clear.join(",");
        let params = Params::new().with("delete", &keys);
        vm.configure(&params).await.map_err(|error| {
            error.doing(format!("change the cloud-init options of VM {}", vm.vmid))
        })?;
        done.push(format!("removed {}", plan.clear.join(", ")));
    }
    Ok(())
}

/// Sets options.
async fn configure(
    vm: &GuardedVm<'_>,
    plan: &Plan,
    password: Option<&str>,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    let changing = format!("change the cloud-init options of VM {}", vm.vmid);
    let mut params: Params = plan
        .set
        .iter()
        .map(|(key, value)| (key.clone(), value))
        .collect();
    if let Some(password) = password.filter(|_| plan.set_password) {
        params.set("cipassword", password::hash(password)?);
    }
    if !params.is_empty() {
        let keys: Vec<&str> = params.iter().map(|(key, _)| key).collect();
        let set = format!("set {}", keys.join(", "));
        vm.configure(&params)
            .await
            .map_err(|error| error.doing(&changing))?;
        done.push(set);
    }
    Ok(())
}

/// Why an ISO could not be deleted, with the privilege that is easily missed.
fn undeletable(volid: &Volid, error: pve_client::Error) -> Failure {
    let forbidden = error.status() == Some(403);
    let mut failure = doing(format!("delete the seed ISO {volid}, which may hold keys"))(error);
    if forbidden {
        let storage = &volid.storage;
        let more = failure
            .hint
            .take()
            .map(|hint| format!("; {hint}"))
            .unwrap_or_default();
        failure.hint = Some(format!(
            "deleting an ISO needs Datastore.Allocate on /storage/{storage}; Datastore.AllocateTemplate, with which it \
             was uploaded, is not enough{more}"
        ));
    }
    failure
}
