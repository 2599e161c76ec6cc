//! Which privilege an option of a VM takes, as qemu-server asks for it.

use super::drive::{Drive, is_drive, is_net};
use super::options::is_cloudinit;
use crate::context::Context;
use crate::error::ApiError;
use crate::schema;

/// The VM whose options are to be set, for a new one with the pool it is to be in.
pub struct Scope<'a> {
    /// The call.
    pub context: &'a Context,
    /// The VM.
    pub vmid: u32,
    /// Whether the VM is being created.
    pub is_new: bool,
    /// The pool of a new VM.
    pub pool: Option<&'a str>,
}

/// The privileges of an option of which any does, or none for options that are root's own.
fn privilege(key: &str) -> Option<&'static [&'static str]> {
    Some(match key {
        "cores" | "sockets" | "smp" | "cpu" | "cpulimit" | "cpuunits" | "numa" | "vcpus" => {
            &["VM.Config.CPU"]
        }
        "memory" | "balloon" | "shares" | "allow-ksm" => &["VM.Config.Memory"],
        "acpi" | "hotplug" | "kvm" | "machine" | "scsihw" | "smbios1" | "tablet" | "vga"
        | "watchdog" | "audio0" | "rng0" => &["VM.Config.HWType"],
        "agent" | "autostart" | "bios" | "description" | "keyboard" | "localtime"
        | "migrate_downtime" | "migrate_speed" | "name" | "onboot" | "ostype" | "protection"
        | "reboot" | "startdate" | "startup" | "tdf" | "template" => &["VM.Config.Options"],
        "freeze" => &["VM.PowerMgmt"],
        "boot" | "bootdisk" | "vmstatestorage" => &["VM.Config.Disk"],
        _ if is_cloudinit(key) => &["VM.Config.Cloudinit", "VM.Config.Network"],
        _ if is_net(key) => &["VM.Config.Network"],
        _ if key.starts_with("numa") => &["VM.Config.CPU"],
        _ if key.starts_with("unused") => &["VM.Config.Disk"],
        _ => return None,
    })
}

impl Scope<'_> {
    /// May this user set (or delete, with no value) an option? `old` is what is there. Tags are checked where they are changed.
    pub fn check(&self, key: &str, value: Option<&str>, old: Option<&str>) -> Result<(), ApiError> {
        if self.context.who.is_root() || key == "tags" {
            return Ok(());
        }
        let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
        match kind {
            _ if is_drive(key) => self.check_drive(value, old),
            "serial" => {
                if value.or(old).is_some_and(|value| value != "socket") {
                    let verb = match (value, self.is_new) {
                        (None, _) => "delete",
                        (_, true) => "set",
                        _ => "modify",
                    };
                    return Err(ApiError::failed(format!(
                        "only root can {verb} '{key}' config for real devices"
                    )));
                }
                self.need(&["VM.Config.HWType"])
            }
            "usb" | "hostpci" | "virtiofs" => {
                let values = [old, value].into_iter().flatten();
                values.into_iter().try_for_each(|value| match kind {
                    "usb" => self.check_usb(key, value),
                    "hostpci" => self.check_hostpci(key, value),
                    _ => self.check_virtiofs(value),
                })
            }
            _ => self.check_plain(key, value, old),
        }
    }

    fn check_plain(
        &self,
        key: &str,
        value: Option<&str>,
        old: Option<&str>,
    ) -> Result<(), ApiError> {
        let Some(wanted) = privilege(key) else {
            return Err(ApiError::failed(format!(
                "only root can set '{key}' config"
            )));
        };
        self.need(wanted)?;
        // What changes the node's behaviour.
        if key == "startup" {
            self.anywhere("/", "Sys.Modify")?;
        }
        if key == "rng0" && value.or(old).is_some_and(|rng| rng.contains("/dev/hwrng")) {
            self.anywhere("/mapping/hwrng", "Mapping.Use")?;
        }
        if is_net(key) {
            for net in [value, old].into_iter().flatten() {
                self.check_bridge(&Drive::parse(net))?;
            }
        }
        Ok(())
    }

    /// Each VLAN of a bridge has a path of its own.
    fn check_bridge(&self, net: &Drive) -> Result<(), ApiError> {
        let Some(bridge) = net.get("bridge") else {
            return Ok(());
        };
        let facts = self.context.host.facts();
        let path = format!("/sdn/zones/{}/{bridge}", facts.zone(bridge));
        let mut vlans: Vec<String> = net.get("tag").map(str::to_owned).into_iter().collect();
        for part in net.get("trunks").unwrap_or_default().split(';') {
            match part
                .split_once('-')
                .map(|(a, b)| (a.parse::<u16>(), b.parse::<u16>()))
            {
                Some((Ok(first), Ok(last))) => {
                    vlans.extend((first..=last).map(|vlan| vlan.to_string()));
                }
                _ if part.is_empty() => {}
                _ => vlans.push(part.to_owned()),
            }
        }
        if vlans.is_empty() {
            return self.anywhere(&path, "SDN.Use");
        }
        vlans
            .iter()
            .try_for_each(|vlan| self.anywhere(&format!("{path}/{vlan}"), "SDN.Use"))
    }

    fn check_drive(&self, value: Option<&str>, old: Option<&str>) -> Result<(), ApiError> {
        for value in [old, value].into_iter().flatten() {
            let drive = Drive::parse(value);
            if drive.is_cloudinit() {
                self.need_all(&["VM.Config.Cloudinit", "VM.Config.CDROM"])?;
            } else if drive.is_cdrom() {
                self.need(&["VM.Config.CDROM"])?;
            } else {
                self.need(&["VM.Config.Disk"])?;
            }
        }
        Ok(())
    }

    fn check_usb(&self, key: &str, value: &str) -> Result<(), ApiError> {
        self.need(&["VM.Config.HWType"])?;
        let device = schema::property_string("usb", "usb", value).unwrap_or_default();
        match (device.get("host"), device.get("mapping")) {
            (Some(host), _) if host.eq_ignore_ascii_case("spice") => Ok(()),
            (Some(_), _) => Err(ApiError::failed(format!(
                "only root can set '{key}' config for real devices"
            ))),
            (None, Some(id)) => self.anywhere(&format!("/mapping/usb/{id}"), "Mapping.Use"),
            (None, None) => Err(ApiError::failed("either 'host' or 'mapping' must be set.")),
        }
    }

    fn check_hostpci(&self, key: &str, value: &str) -> Result<(), ApiError> {
        let device = Drive::parse(value);
        if !device.file.is_empty() || device.get("host").is_some() {
            return Err(ApiError::failed(format!(
                "only root can set '{key}' config for non-mapped devices"
            )));
        }
        let Some(id) = device.get("mapping") else {
            return Err(ApiError::failed("either 'host' or 'mapping' must be set."));
        };
        self.anywhere(&format!("/mapping/pci/{id}"), "Mapping.Use")?;
        self.need(&["VM.Config.HWType"])?;
        if device.get("romfile").is_some() {
            return Err(ApiError::param(
                key,
                "only root@pam can set 'romfile' option",
            ));
        }
        Ok(())
    }

    fn check_virtiofs(&self, value: &str) -> Result<(), ApiError> {
        self.need(&["VM.Config.Disk"])?;
        let shared = Drive::parse(value);
        let id = shared.get("dirid").unwrap_or(&shared.file);
        self.anywhere(&format!("/mapping/dir/{id}"), "Mapping.Use")
    }

    fn anywhere(&self, path: &str, privilege: &str) -> Result<(), ApiError> {
        let access = &self.context.host.access;
        access.check(&self.context.who, path, &[privilege])
    }

    /// One of these on the VM or on its pool.
    fn need(&self, wanted: &[&str]) -> Result<(), ApiError> {
        let (access, who) = (&self.context.host.access, &self.context.who);
        if let Some(pool) = self.pool
            && access
                .check_any(who, &format!("/pool/{pool}"), wanted)
                .is_ok()
        {
            return Ok(());
        }
        access.check_any(who, &format!("/vms/{}", self.vmid), wanted)
    }

    /// All of these on the VM or on its pool.
    fn need_all(&self, wanted: &[&str]) -> Result<(), ApiError> {
        let (access, who) = (&self.context.host.access, &self.context.who);
        if let Some(pool) = self.pool
            && access.check(who, &format!("/pool/{pool}"), wanted).is_ok()
        {
            return Ok(());
        }
        access.check(who, &format!("/vms/{}", self.vmid), wanted)
    }
}

#[cfg(test)]
mod tests {
    use pve_schema::{Kind, PARAMETERS};

    use super::privilege;

    /// The modules know the same privileges from their own table.
    #[test]
    fn the_table_of_parameters_has_these_privileges() {
        for parameter in PARAMETERS {
            let by_value = ["hostpci*", "serial*", "tags", "usb*", "virtiofs*"];
            let of_a_call =
                matches!(parameter.kind, Kind::NotConfig) && parameter.privileges.is_empty();
            if by_value.contains(&parameter.name)
                || matches!(parameter.kind, Kind::Drive)
                || of_a_call
            {
                continue;
            }
            let found = privilege(&parameter.name.replace('*', "0"));
            let name = parameter.name;
            assert_eq!(found.unwrap_or_default(), parameter.privileges, "{name}");
            assert_eq!(found.is_none(), parameter.root_only, "{name}");
        }
    }
}
