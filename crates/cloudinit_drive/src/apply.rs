//! Doing what the plan says.

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::{Client, Params, Upload, Volid};
use pve_module::{cdrom, doing};

use crate::password;
use crate::plan::Plan;

/// Where the plan is carried out.
pub struct Place<'a> {
    /// The API.
    pub client: &'a Client,
    /// The node to ask.
    pub node: &'a str,
    /// The VM.
    pub vmid: u32,
    /// The drive.
    pub drive: &'a str,
    /// The limit for everything.
    pub deadline: &'a Deadline,
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
    place: &Place<'_>,
    plan: Plan,
    iso: Option<Iso>,
    password: Option<&str>,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    let Place {
        client,
        node,
        vmid,
        drive,
        deadline,
    } = *place;
    if let Some(Iso { volid, bytes }) = iso.filter(|_| plan.upload) {
        upload(place, &volid, bytes).await?;
        done.push(format!("uploaded {volid}"));
    }
    for old in &plan.detach {
        cdrom::detach(client, node, vmid, old, deadline)
            .await
            .map_err(doing(format!(
                "remove the cloud-init drive {old} of VM {vmid}"
            )))?;
        done.push(format!("removed {old}"));
    }
    if let Some(medium) = &plan.attach {
        cdrom::attach(client, node, vmid, drive, medium, deadline)
            .await
            .map_err(doing(format!("attach {medium} to {drive} of VM {vmid}")))?;
        done.push(format!("attached {medium} as {drive}"));
    }
    configure(place, &plan, password, done).await?;
    if plan.regenerate {
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
        client
            .delete_volume(node, volid, deadline)
            .await
            .map_err(|error| undeletable(volid, error))?;
        done.push(format!("deleted {volid}"));
    }
    Ok(())
}

/// Uploads the ISO and waits until it is in place; Proxmox VE compares its checksum.
async fn upload(place: &Place<'_>, volid: &Volid, bytes: Vec<u8>) -> Result<(), Failure> {
    let uploading = || doing(format!("upload the seed {volid}"));
    let upload = Upload::iso_bytes(volid.file_name(), bytes);
    let task = place
        .client
        .upload(
            place.node,
            &volid.storage,
            &upload,
            place.deadline,
            |_, _| (),
        )
        .await
        .map_err(uploading())?;
    place
        .client
        .task(&task, place.deadline, |_| ())
        .await
        .map_err(uploading())?;
    Ok(())
}

/// Sets and removes options. In two calls, because Proxmox VE takes no
/// parameter both ways, and a stale secret should go even if a new value is refused.
async fn configure(
    place: &Place<'_>,
    plan: &Plan,
    password: Option<&str>,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    let Place {
        client,
        node,
        vmid,
        deadline,
        ..
    } = *place;
    let changing = || doing(format!("change the cloud-init options of VM {vmid}"));
    if !plan.clear.is_empty() {
        let keys = plan.clear.join(",");
        let params = Params::new().with("delete", &keys);
        client
            .vm_configure(node, vmid, &params, deadline)
            .await
            .map_err(changing())?;
        done.push(format!("removed {}", plan.clear.join(", ")));
    }
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
        client
            .vm_configure(node, vmid, &params, deadline)
            .await
            .map_err(changing())?;
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
