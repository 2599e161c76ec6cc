//! What is: the VM's drives and cloud-init options, and the seed ISOs made for it.

use std::collections::BTreeMap;

use ansible_module::Failure;
use nocloud_seed::{iso_prefix, iso_vmid};
use pve_client::{Pending, Storage, Volid};
use pve_module::{Context, doing, node_of};
use pve_schema::is_cdrom_drive;
use serde_json::Value;

use crate::error::Error;
use crate::holders;

/// An option of the VM's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Its value in the running VM, or in a stopped one.
    pub now: Option<String>,
    /// Its value after the next start; nothing when it is to be deleted.
    pub next: Option<String>,
}

/// What a drive holds, as far as this module cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// Proxmox VE's own cloud-init volume.
    Native,
    /// A seed ISO that this module made for this VM.
    Seed(Volid),
    /// A seed ISO that this module made for another VM, whose configuration was copied with it into a clone.
    ForeignSeed(Volid),
    /// An empty CD-ROM drive.
    Empty,
    /// Anything else, which is not ours to touch.
    Other,
}

/// The VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The node where it is.
    pub node: String,
    /// Its configuration.
    pub config: BTreeMap<String, Line>,
}

/// A seed ISO on a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedIso {
    /// Its volume.
    pub volid: Volid,
    /// Its size in bytes so far, if the storage says.
    pub size: Option<u64>,
}

/// Everything that the plan rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// The VM, if it exists.
    pub vm: Option<Vm>,
    /// The seed ISOs made for this VMID on the storages that were looked at.
    pub seeds: Vec<SeedIso>,
    /// The crypt hash of the native drive's password, when it was asked for and there is one.
    pub password_hash: Option<String>,
    /// The cloud-init options whose change is not yet in the native drive.
    pub stale: Vec<String>,
    /// The seed ISOs that another VM has in a drive, each with that VM.
    pub held: BTreeMap<String, u32>,
}

impl Current {
    /// What was found first.
    pub fn new(vm: Option<Vm>, seeds: Vec<SeedIso>) -> Self {
        Self {
            vm,
            seeds,
            password_hash: None,
            stale: Vec::new(),
            held: BTreeMap::new(),
        }
    }
}

impl Vm {
    /// An option's value after the next start.
    pub fn next(&self, key: &str) -> Option<&str> {
        self.config.get(key)?.next.as_deref()
    }

    /// What a drive's value holds, for the VM with this ID.
    pub fn medium(value: &str, vmid: u32) -> Medium {
        let volume = value.split(',').next().unwrap_or_default();
        let volume = volume.strip_prefix("file=").unwrap_or(volume);
        if volume == "none" {
            return Medium::Empty;
        }
        let Ok(volid) = volume.parse::<Volid>() else {
            return Medium::Other;
        };
        if is_seed(&volid, vmid) {
            return Medium::Seed(volid);
        }
        if volid.name.starts_with("iso/") && iso_vmid(volid.file_name()).is_some() {
            return Medium::ForeignSeed(volid);
        }
        // As PVE::QemuServer::Drive::drive_is_cloudinit: vm-101-cloudinit, on a
        // directory storage with a suffix.
        let name = volid.file_name();
        let name = ["raw", "qcow2", "vmdk"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix)?.strip_suffix('.'))
            .unwrap_or(name);
        let native = name == "cloudinit"
            || name
                .strip_prefix("vm-")
                .and_then(|rest| rest.strip_suffix("-cloudinit"))
                .is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()));
        if native {
            Medium::Native
        } else {
            Medium::Other
        }
    }

    /// Drives that hold something, now or after the next start.
    pub fn drives(&self, vmid: u32) -> impl Iterator<Item = (&str, Medium)> {
        self.config
            .iter()
            .filter(|(key, _)| is_cdrom_drive(key))
            .flat_map(move |(key, line)| {
                let values = [line.next.as_deref(), line.now.as_deref()];
                let media = values
                    .into_iter()
                    .flatten()
                    .map(move |value| Self::medium(value, vmid));
                media.map(move |medium| (key.as_str(), medium))
            })
    }
}

/// The drive that is meant: the one that is named, or else `ide0`, and on a machine without IDE the SCSI drive that holds a
/// cloud-init drive, or the first that is free after `scsi0`.
///
/// # Errors
/// When the VM has no such bus, or none is free.
pub fn drive(named: Option<&str>, vm: Option<&Vm>, vmid: u32) -> Result<String, Error> {
    const DEFAULT: &str = "ide0";
    // Proxmox VE runs these as QEMU's machine `virt`, on which a drive of IDE ends the start: "Bus 'ide.0' not found".
    let without_ide = vm.is_some_and(|vm| vm.next("arch") == Some("aarch64"));
    if !without_ide {
        return Ok(named.unwrap_or(DEFAULT).to_owned());
    }
    match (named, vm) {
        (Some(drive), _) if drive.starts_with("ide") => Err(Error::NoIde {
            vmid,
            drive: drive.to_owned(),
        }),
        (Some(drive), _) => Ok(drive.to_owned()),
        (None, None) => Ok(DEFAULT.to_owned()),
        (None, Some(vm)) => {
            let is_ours = |(key, medium): &(&str, Medium)| {
                key.starts_with("scsi") && !matches!(medium, Medium::Other | Medium::Empty)
            };
            if let Some((key, _)) = vm.drives(vmid).find(is_ours) {
                return Ok(key.to_owned());
            }
            let mut slots = (1..=30).map(|n| format!("scsi{n}"));
            slots
                .find(|slot| {
                    vm.config
                        .get(slot)
                        .is_none_or(|line| line.next.is_none() && line.now.is_none())
                })
                .ok_or(Error::NoFreeDrive { vmid })
        }
    }
}

fn is_seed(volid: &Volid, vmid: u32) -> bool {
    let name = volid.file_name();
    volid.name.starts_with("iso/") && name.starts_with(&iso_prefix(vmid)) && name.ends_with(".iso")
}

/// Reads the VM, first on `node`, then wherever it is.
pub async fn read_vm(context: &Context<'_>, node: &str, vmid: u32) -> Result<Option<Vm>, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let reading = || doing(format!("read the configuration of VM {vmid}"));
    let (node, lines) = match client.vm_pending(node, vmid, deadline).await {
        Ok(lines) => (node.to_owned(), lines),
        Err(error) if error.not_found() => match node_of(client, vmid, deadline).await? {
            None => return Ok(None),
            Some(node) => {
                let lines = client
                    .vm_pending(&node, vmid, deadline)
                    .await
                    .map_err(reading())?;
                (node, lines)
            }
        },
        Err(error) => return Err(reading()(error)),
    };
    Ok(Some(Vm {
        node,
        config: lines.into_iter().map(line).collect(),
    }))
}

fn line(pending: Pending) -> (String, Line) {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let now = pending.value.map(text);
    let next = match (pending.delete, pending.pending) {
        (Some(_), _) => None,
        (None, Some(value)) => Some(text(value)),
        (None, None) => now.clone(),
    };
    (pending.key, Line { now, next })
}

/// The storages of a node that may hold `content` and can be used now.
pub async fn usable_storages(
    context: &Context<'_>,
    node: &str,
    content: &str,
) -> Result<Vec<Storage>, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let storages = client
        .storages(node, Some(content), deadline)
        .await
        .map_err(doing(format!("list the storages of node {node}")))?;
    Ok(storages
        .into_iter()
        .filter(|storage| storage.enabled && storage.active && storage.holds(content))
        .collect())
}

/// The seed ISOs made for this VMID on a storage.
pub async fn seeds(
    context: &Context<'_>,
    node: &str,
    vmid: u32,
    storage: &str,
) -> Result<Vec<SeedIso>, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let content = client
        .content(node, storage, Some("iso"), deadline)
        .await
        .map_err(doing(format!("list the ISO images on storage {storage}")))?;
    let seed = |entry: pve_client::StorageContent| {
        let volid: Volid = entry.volid.parse().ok()?;
        is_seed(&volid, vmid).then_some(SeedIso {
            volid,
            size: entry.size,
        })
    };
    Ok(content.into_iter().filter_map(seed).collect())
}

/// Those of these volumes that another VM of the cluster has in a drive, each with that VM. A storage that is not marked as shared
/// may be so all the same, such as a directory that is an NFS mount on every node, so its volumes are looked for everywhere.
pub async fn held_elsewhere(
    context: &Context<'_>,
    vmid: u32,
    volids: &[Volid],
) -> Result<BTreeMap<String, u32>, Failure> {
    let holders = holders::holders(context).await?;
    let held = volids.iter().filter_map(|volid| {
        let of_it = holders.get(&volid.to_string())?;
        let number = of_it.iter().find(|number| **number != vmid)?;
        Some((volid.to_string(), *number))
    });
    Ok(held.collect())
}

/// The DNS settings of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
}

/// Reads the DNS settings of a node. A resolver of its own, at a loopback address, is not a name server for a guest.
pub async fn dns(context: &Context<'_>, node: &str) -> Result<Dns, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let settings = client
        .get(&format!("/nodes/{node}/dns"), &[], deadline)
        .await
        .map_err(doing(format!("read the DNS settings of node {node}")))?;
    let text = |key: &str| settings.get(key).and_then(Value::as_str).map(str::trim);
    let usable = |address: &&str| {
        address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
    };
    Ok(Dns {
        servers: ["dns1", "dns2", "dns3"]
            .into_iter()
            .filter_map(text)
            .filter(usable)
            .map(str::to_owned)
            .collect(),
        search: text("search")
            .into_iter()
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect(),
    })
}

/// The crypt hash in the user-data that Proxmox VE would write. The
/// configuration itself shows a password only as stars.
pub async fn password_hash(
    context: &Context<'_>,
    node: &str,
    vmid: u32,
) -> Result<Option<String>, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let dump = client
        .get(
            &format!("/nodes/{node}/qemu/{vmid}/cloudinit/dump"),
            &[("type", "user".to_owned())],
            deadline,
        )
        .await
        .map_err(doing(format!("read the user-data of VM {vmid}")))?;
    let hash = dump.as_str().and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("password:"))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    });
    Ok(hash)
}

/// The cloud-init options whose change is not yet in the native drive.
pub async fn stale(context: &Context<'_>, node: &str, vmid: u32) -> Result<Vec<String>, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let entries = client
        .get(
            &format!("/nodes/{node}/qemu/{vmid}/cloudinit"),
            &[],
            deadline,
        )
        .await
        .map_err(doing(format!("read the cloud-init drive of VM {vmid}")))?;
    let changed = |entry: &Value| {
        let differs = entry.get("pending").is_some() || entry.get("delete").is_some();
        differs
            .then(|| entry.get("key")?.as_str().map(str::to_owned))
            .flatten()
    };
    Ok(entries
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(changed)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_told_apart() {
        let medium = |value: &str| Vm::medium(value, 101);
        for native in [
            "local:101/vm-101-cloudinit.qcow2,media=cdrom",
            "zfs:vm-101-cloudinit,media=cdrom,size=4M",
            "file=ceph:vm-101-cloudinit",
            "local:cloudinit",
        ] {
            assert_eq!(medium(native), Medium::Native, "{native}");
        }
        assert_eq!(medium("none,media=cdrom"), Medium::Empty);
        let seed = "local:iso/nixos-proxmox-seed-101-0f3a5c7e9b1d.iso";
        assert_eq!(
            medium(&format!("{seed},media=cdrom,size=58K")),
            Medium::Seed(seed.parse().unwrap())
        );
        let foreign = "local:iso/nixos-proxmox-seed-10-0f3a5c7e9b1d.iso";
        assert_eq!(
            medium(&format!("{foreign},media=cdrom")),
            Medium::ForeignSeed(foreign.parse().unwrap())
        );
        for other in [
            "local:iso/nixos.iso,media=cdrom",
            "local:iso/nixos-proxmox-seed-010-0f3a5c7e9b1d.iso",
            "local:iso/nixos-proxmox-seed-10-mine.iso",
            "local:101/vm-101-disk-0.raw",
            "local:iso/vm-101-cloudinit.iso",
            "cdrom",
            "/dev/sr0",
            "",
        ] {
            assert_eq!(medium(other), Medium::Other, "{other}");
        }
    }

    #[test]
    fn a_machine_without_ide_has_its_drive_on_scsi() {
        let vm = |config: &[(&str, &str)]| {
            let line = |value: &str| Line {
                now: Some(value.to_owned()),
                next: Some(value.to_owned()),
            };
            let config = config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), line(value)));
            Vm {
                node: "pve".into(),
                config: config.collect(),
            }
        };
        let arm = ("arch", "aarch64");
        let seed = "local:iso/nixos-proxmox-seed-101-0f3a5c7e9b1d.iso";
        for (config, expected) in [
            (vm(&[("scsi0", "zfs:vm-101-disk-0")]), "ide0"),
            (vm(&[("arch", "x86_64")]), "ide0"),
            (vm(&[arm, ("scsi0", "zfs:vm-101-disk-0")]), "scsi1"),
            (vm(&[arm]), "scsi1"),
            (
                vm(&[arm, ("scsi1", "local:iso/nixos.iso,media=cdrom")]),
                "scsi2",
            ),
            (vm(&[arm, ("scsi4", seed)]), "scsi4"),
            (
                vm(&[
                    arm,
                    ("scsi3", "local:iso/nixos-proxmox-seed-9-0f3a5c7e9b1d.iso"),
                ]),
                "scsi3",
            ),
        ] {
            assert_eq!(drive(None, Some(&config), 101).unwrap(), expected);
        }
        assert_eq!(drive(None, None, 101).unwrap(), "ide0");
        let refused: Failure = drive(Some("ide2"), Some(&vm(&[arm])), 101)
            .unwrap_err()
            .into();
        assert!(refused.msg.contains("aarch64") && refused.hint.unwrap().contains("scsi1"));
        for named in ["scsi5", "sata0"] {
            assert_eq!(drive(Some(named), Some(&vm(&[arm])), 101).unwrap(), named);
        }
    }

    #[test]
    fn drives_are_named_as_proxmox_names_them() {
        for drive in ["ide0", "ide3", "sata5", "scsi30"] {
            assert!(is_cdrom_drive(drive));
        }
        for other in [
            "ide4", "ide", "ide00", "ide-1", "virtio0", "scsi31", "net0", "efidisk0", "scsihw",
        ] {
            assert!(!is_cdrom_drive(other), "{other}");
        }
    }
}
