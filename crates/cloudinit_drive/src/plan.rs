//! Compare the current with the desired state and plan the steps. Pure: no I/O.

use std::collections::BTreeMap;

use nocloud_seed::IpConfig;
use percent_encoding::percent_decode_str;
use pve_client::Volid;
use pve_client::property::{PropertyString, parse_bool};

use crate::content::Native;
use crate::error::Error;
use crate::password;
use crate::state::{Current, Medium, SeedIso, Vm};

/// The desired state.
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
    /// When the drive holds something that is not ours, when `cicustom` makes an option void, and when a drive had to go from a
    /// protected VM.
    pub fn new(vmid: u32, drive: &str, wanted: &Wanted, current: &Current) -> Result<Self, Error> {
        let mut plan = Plan::default();
        let mut old_seeds: Vec<Volid> = current
            .seeds
            .iter()
            .map(|seed| seed.volid.clone())
            .collect();
        let Some(vm) = &current.vm else {
            old_seeds.retain(|old| !current.held.contains_key(&old.to_string()));
            plan.delete = old_seeds;
            return Ok(plan);
        };
        let mut slot = Vec::new();
        for (key, medium) in vm.drives(vmid) {
            if key == drive {
                slot.push(medium.clone());
            } else if matches!(
                medium,
                Medium::Native | Medium::Seed(_) | Medium::ForeignSeed(_)
            ) {
                plan.detach.push(key.to_owned());
            }
            if let Medium::Seed(volid) = medium {
                old_seeds.push(volid);
            }
        }
        let held = vm.next(drive).map(|value| Vm::medium(value, vmid));
        if held == Some(Medium::Other) && *wanted != Wanted::Absent {
            return Err(Error::InUse {
                vmid,
                drive: drive.to_owned(),
                value: vm.next(drive).unwrap_or_default().to_owned(),
            });
        }
        match wanted {
            Wanted::Absent => {
                let ours = |medium: &Medium| !matches!(medium, Medium::Empty | Medium::Other);
                // An empty drive is what an interrupted run of this module leaves.
                if slot.iter().any(ours) || held == Some(Medium::Empty) {
                    plan.detach.push(drive.to_owned());
                }
                plan.clear = cloudinit_options(vm);
            }
            Wanted::Nocloud { volid, size } => {
                plan.seed(vmid, drive, vm, volid, *size, current);
                old_seeds.retain(|old| old != volid);
            }
            Wanted::Native { storage, content } => {
                refuse_custom(vmid, vm, content)?;
                if held != Some(Medium::Native) {
                    plan.attach = Some(format!("{storage}:cloudinit"));
                }
                plan.native_options(vm, content, current);
            }
        }
        plan.detach.sort();
        plan.detach.dedup();
        plan.refuse_protected(vmid, vm)?;
        old_seeds.sort();
        old_seeds.dedup();
        // A clone would not start without it.
        old_seeds.retain(|old| !current.held.contains_key(&old.to_string()));
        plan.delete = old_seeds;
        Ok(plan)
    }

    /// The seed `volid` of `size` bytes, in `drive`.
    fn seed(
        &mut self,
        vmid: u32,
        drive: &str,
        vm: &Vm,
        volid: &Volid,
        size: u64,
        current: &Current,
    ) {
        let held = vm.next(drive).map(|value| Vm::medium(value, vmid));
        let complete = |seed: &SeedIso| seed.volid == *volid && seed.size == Some(size);
        self.upload = !current.seeds.iter().any(complete);
        if held == Some(Medium::Native) {
            // Detached first, so that Proxmox VE removes its volume.
            self.detach.push(drive.to_owned());
        }
        if vm.drives(vmid).any(|(_, medium)| medium == Medium::Native) {
            // The password and keys of that drive.
            self.clear = cloudinit_options(vm);
        }
        if held != Some(Medium::Seed(volid.clone())) {
            self.attach = Some(volid.to_string());
        }
    }

    /// Refuse to take a drive from a protected VM, before the medium is taken out, which Proxmox VE would still do.
    fn refuse_protected(&self, vmid: u32, vm: &Vm) -> Result<(), Error> {
        let (Some(drive), Some("1")) = (self.detach.first(), vm.next("protection")) else {
            return Ok(());
        };
        let drive = drive.clone();
        Err(Error::Protected { vmid, drive })
    }

    /// The options of a native drive.
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

/// The options in the VM's configuration that cloud-init's content comes from.
fn cloudinit_options(vm: &Vm) -> Vec<String> {
    let is_set = |(key, line): &(&String, &crate::state::Line)| {
        line.next.is_some() && is_cloudinit_option(key)
    };
    vm.config
        .iter()
        .filter(is_set)
        .map(|(key, _)| key.clone())
        .collect()
}

/// Refuses options that Proxmox VE does not use, since the VM's `cicustom` has a file in their place
/// (PVE::QemuServer::Cloudinit, `get_custom_cloudinit_files`).
fn refuse_custom(vmid: u32, vm: &Vm, content: &Native) -> Result<(), Error> {
    let Some(custom) = vm.next("cicustom") else {
        return Ok(());
    };
    let parsed = PropertyString::parse(custom, None).ok();
    let given = |key: &str| content.keys.get(key).is_some_and(Option::is_some);
    let user = ["ciuser", "sshkeys"].into_iter().filter(|key| given(key));
    let user = user.chain(content.password.as_ref().map(|_| "cipassword"));
    let addresses = content
        .keys
        .iter()
        .filter(|(key, value)| key.starts_with("ipconfig") && value.is_some());
    let names = ["nameserver", "searchdomain"]
        .into_iter()
        .filter(|key| given(key));
    let network = addresses.map(|(key, _)| key.as_str()).chain(names);
    for (part, what, unused) in [
        ("user", "user-data", user.collect::<Vec<_>>()),
        ("network", "network-config", network.collect()),
    ] {
        let file = parsed.as_ref().and_then(|parsed| parsed.get(part));
        if let (Some(file), false) = (file, unused.is_empty()) {
            return Err(Error::Custom {
                vmid,
                part,
                what,
                file: file.to_owned(),
                unused: unused.join(", "),
            });
        }
    }
    Ok(())
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

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
