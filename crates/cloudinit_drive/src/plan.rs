//! What must be done: pure, from what is and what is wanted.

use std::collections::BTreeMap;

use ansible_module::Failure;
use nocloud_seed::IpConfig;
use percent_encoding::percent_decode_str;
use pve_client::Volid;
use pve_client::property::parse_bool;

use crate::content::Native;
use crate::password;
use crate::state::{Current, Medium, Vm};

/// What shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// No cloud-init drive, no seed ISO, no cloud-init option.
    Absent,
    /// This seed ISO.
    Nocloud {
        /// Its volume.
        volid: Volid,
        /// Its size in bytes.
        size: u64,
    },
    /// Proxmox VE's own drive.
    Native {
        /// The storage for a new one.
        storage: String,
        /// Its content.
        content: Native,
    },
}

/// The steps, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Upload the seed ISO.
    pub upload: bool,
    /// Eject and remove these drives.
    pub detach: Vec<String>,
    /// Attach this to the drive.
    pub attach: Option<String>,
    /// Set these options.
    pub set: BTreeMap<String, String>,
    /// Set the password.
    pub set_password: bool,
    /// Remove these options.
    pub clear: Vec<String>,
    /// Have Proxmox VE write its drive anew.
    pub regenerate: bool,
    /// Delete these seed ISOs.
    pub delete: Vec<Volid>,
}

impl Plan {
    /// Whether everything is as it shall be.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the plan for the VM with this ID and its drive.
    ///
    /// # Errors
    /// `drive_in_use` when the drive holds something that is not ours.
    pub fn new(
        vmid: u32,
        drive: &str,
        wanted: &Wanted,
        current: &Current,
    ) -> Result<Self, Failure> {
        let mut plan = Plan::default();
        let mut old_seeds: Vec<Volid> = current
            .seeds
            .iter()
            .map(|seed| seed.volid.clone())
            .collect();
        let Some(vm) = &current.vm else {
            plan.delete = old_seeds;
            return Ok(plan);
        };
        let mut slot = Vec::new();
        for (key, medium) in vm.drives(vmid) {
            if key == drive {
                slot.push(medium.clone());
            } else if matches!(medium, Medium::Native | Medium::Seed(_)) {
                plan.detach.push(key.to_owned());
            }
            if let Medium::Seed(volid) = medium {
                old_seeds.push(volid);
            }
        }
        let held = vm.next(drive).map(|value| Vm::medium(value, vmid));
        if held == Some(Medium::Other) && *wanted != Wanted::Absent {
            return Err(in_use(vmid, drive, vm.next(drive).unwrap_or_default()));
        }
        match wanted {
            Wanted::Absent => {
                let ours = |medium: &Medium| matches!(medium, Medium::Native | Medium::Seed(_));
                // An empty drive is what an interrupted run of this module leaves.
                if slot.iter().any(ours) || held == Some(Medium::Empty) {
                    plan.detach.push(drive.to_owned());
                }
                plan.clear = vm
                    .config
                    .iter()
                    .filter(|(key, line)| line.next.is_some() && is_cloudinit_option(key))
                    .map(|(key, _)| key.clone())
                    .collect();
            }
            Wanted::Nocloud { volid, size } => {
                let complete = |seed: &&crate::state::SeedIso| {
                    seed.volid == *volid && seed.size == Some(*size)
                };
                plan.upload = !current.seeds.iter().any(|seed| complete(&seed));
                if held == Some(Medium::Native) {
                    // Detached first, so that Proxmox VE removes its volume.
                    plan.detach.push(drive.to_owned());
                }
                if held != Some(Medium::Seed(volid.clone())) {
                    plan.attach = Some(volid.to_string());
                }
                old_seeds.retain(|old| old != volid);
            }
            Wanted::Native { storage, content } => {
                if held != Some(Medium::Native) {
                    plan.attach = Some(format!("{storage}:cloudinit"));
                }
                plan.native_options(vm, content, current);
            }
        }
        plan.detach.sort();
        plan.detach.dedup();
        old_seeds.sort();
        old_seeds.dedup();
        plan.delete = old_seeds;
        Ok(plan)
    }

    fn native_options(&mut self, vm: &Vm, content: &Native, current: &Current) {
        for (key, value) in &content.keys {
            match (vm.next(key), value) {
                (Some(_), None) => self.clear.push(key.clone()),
                (None, None) => {}
                (Some(is), Some(wanted)) if same(key, is, wanted) => {}
                (_, Some(wanted)) => {
                    self.set.insert(key.clone(), wanted.clone());
                }
            }
        }
        self.set_password = content.password.as_ref().is_some_and(|wanted| {
            let hash = current.password_hash.as_deref();
            !hash.is_some_and(|hash| password::matches(wanted.expose(), hash))
        });
        let ours = |key: &String| content.keys.contains_key(key) || key == "cipassword";
        self.regenerate = self.attach.is_some()
            || !self.set.is_empty()
            || !self.clear.is_empty()
            || self.set_password
            || current.stale.iter().any(ours);
    }
}

fn in_use(vmid: u32, drive: &str, value: &str) -> Failure {
    Failure::new(
        "drive_in_use",
        format!("{drive} of VM {vmid} is not a cloud-init drive, it holds {value}"),
    )
    .object(format!("VM {vmid} {drive}"))
    .hint("choose another drive, or remove this one first (proxmox_nixos_vm with remove_disks)")
}

/// The options that cloud-init's content comes from, in Proxmox VE 8 and 9.
pub fn is_cloudinit_option(key: &str) -> bool {
    const OPTIONS: [&str; 8] = [
        "cicustom",
        "cipassword",
        "citype",
        "ciupgrade",
        "ciuser",
        "nameserver",
        "searchdomain",
        "sshkeys",
    ];
    let numbered = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    OPTIONS.contains(&key) || key.strip_prefix("ipconfig").is_some_and(numbered)
}

/// Whether two values of an option mean the same.
fn same(key: &str, is: &str, wanted: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split([' ', ',', ';'])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let keys = |text: &str| -> Vec<String> {
        let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
        decoded
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    match key {
        "sshkeys" => keys(is) == keys(wanted),
        "nameserver" | "searchdomain" => words(is) == words(wanted),
        "ciupgrade" => parse_bool(is) == parse_bool(wanted),
        _ if key.starts_with("ipconfig") => {
            is == wanted
                || matches!((IpConfig::parse(key, is), IpConfig::parse(key, wanted)), (Ok(a), Ok(b)) if a == b)
        }
        _ => is == wanted,
    }
}
