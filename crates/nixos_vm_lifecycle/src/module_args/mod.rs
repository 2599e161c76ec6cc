//! The variables, brought into the options of the other modules.

use pve_module::record::Phase;
use serde_json::{Map, Value, json};

use crate::options::{Cloudinit, InstallerSource, PREFIX, Power, Restart, Settings};

/// What a new VM gets where nothing is set.
const NEW: [(&str, &str); 4] = [
    ("cpu", "x86-64-v2-AES"),
    ("bios", "seabios"),
    ("scsihw", "virtio-scsi-single"),
    ("agent", "enabled=1"),
];
const NEW_MEMORY: u64 = 2048;
const NEW_CORES: u32 = 2;
const NEW_DISK_SIZE: u64 = 32;

/// A dict of options.
pub type Args = Map<String, Value>;

/// The further options of each module, those of the host over those of the group.
pub struct Further {
    /// Of `proxmox_nixos_vm`.
    pub vm: Args,
    /// Of `cloudinit_drive`.
    pub seed: Args,
    /// Of `proxmox_iso`.
    pub iso: Args,
    /// Of `nixos_anywhere_install`.
    pub install: Args,
}

impl Further {
    /// What is wrong with them: options that the role decides itself.
    pub fn decided_here(&self) -> Vec<String> {
        let refuse = |variable: &str, args: &Args, decided: &[&str]| -> Vec<String> {
            let keys = args.keys().filter(|key| decided.contains(&key.as_str()));
            keys.map(|key| format!("nixos_vm_{variable}.{key}: is decided by the role; leave it out, or set the role's own variable for it"))
                .collect()
        };
        [
            refuse(
                "vm_options",
                &self.vm,
                &[
                    "state",
                    "name",
                    "vmid",
                    "node",
                    "boot",
                    "force",
                    "restart",
                    "remove_disks",
                    "guard_tag",
                    "only_if_tagged",
                    "unless_tagged",
                    "guest_facts",
                    "wait_for_address",
                    "progress_path",
                ],
            ),
            refuse(
                "seed_options",
                &self.seed,
                &[
                    "state",
                    "kind",
                    "vmid",
                    "node",
                    "drive",
                    "storage",
                    "ssh_host_keys",
                    "ssh_authorized_keys",
                ],
            ),
            refuse(
                "iso_options",
                &self.iso,
                &["state", "node", "storage", "src", "url", "progress_path"],
            ),
            refuse(
                "install_options",
                &self.install,
                &[
                    "state",
                    "host",
                    "port",
                    "user",
                    "private_key_file",
                    "host_keys",
                    "installed_host_keys",
                    "flake",
                    "override_inputs",
                    "store_paths",
                    "closure",
                    "extra_files",
                    "log_path",
                    "progress_path",
                ],
            ),
        ]
        .concat()
    }
}

/// The words of a confirmation: a list, or a text with commas.
pub fn words(confirmation: Option<&Value>) -> Vec<String> {
    let list = match confirmation {
        Some(Value::Array(list)) => list.clone(),
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one.clone()],
    };
    list.iter()
        .flat_map(|word| match word {
            Value::String(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            Value::Number(number) => vec![number.to_string()],
            _ => Vec::new(),
        })
        .collect()
}

impl Settings {
    /// The further options of the modules.
    pub fn further(&self) -> Further {
        Further {
            vm: merged(&self.vm_options, &self.host_vm_options),
            seed: merged(&self.seed_options, &self.host_seed_options),
            iso: merged(&self.iso_options, &self.host_iso_options),
            install: merged(&self.install_options, &self.host_install_options),
        }
    }

    /// The places on the controller that are not absolute. Ansible runs modules in the playbook's directory, which is another one when
    /// the machine is destroyed.
    pub fn relative_places(&self) -> Vec<String> {
        [
            ("state_root", Some(&self.state_root)),
            ("state_dir", self.state_dir.as_ref()),
            ("known_hosts", self.known_hosts.as_ref()),
            ("host_keys_dir", self.host_keys_dir.as_ref()),
            (
                "host_keys_vault_password_file",
                self.host_keys_vault_password_file.as_ref(),
            ),
            ("system_facts_file", self.system_facts_file.as_ref()),
        ]
        .into_iter()
        .filter_map(|(variable, path)| {
            let path = path?;
            let anchored = path.is_absolute() || path.starts_with("~") || path.as_os_str().is_empty();
            (!anchored).then(|| {
                format!(
                    "nixos_vm_{variable}: must be an absolute path (got {}); begin it with {{{{ inventory_dir }}}} or ~",
                    path.display()
                )
            })
        })
        .collect()
    }

    /// The words of `nixos_vm_confirm_reinstall`.
    pub fn confirmed_reinstall(&self) -> Vec<String> {
        words(self.confirm_reinstall.as_ref())
    }

    /// The memory of the installed machine in MiB.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(NEW_MEMORY)
    }

    /// The disks that are described, in the order in which a boot disk is looked for; one on SCSI if none is.
    fn disks(&self) -> Vec<(&'static str, Map<String, Value>)> {
        let set = self.set();
        let mut disks: Vec<(&'static str, Map<String, Value>)> = ["scsi", "virtio", "sata"]
            .into_iter()
            .filter_map(|bus| {
                let disks = set.get(bus)?.as_object()?;
                (!disks.is_empty()).then(|| (bus, disks.clone()))
            })
            .collect();
        if disks.is_empty() {
            let size = self.disk_size.unwrap_or(NEW_DISK_SIZE);
            let disk = json!({"storage": self.disks_storage, "size": format!("{size}G")});
            disks.push(("scsi", Map::from_iter([("scsi0".to_owned(), disk)])));
        }
        disks
    }

    /// The keys of the disks.
    pub fn described(&self) -> Vec<String> {
        self.disks()
            .into_iter()
            .flat_map(|(_, disks)| disks.into_iter().map(|(key, _)| key))
            .collect()
    }

    /// The disk that NixOS is installed onto: the one that is named, or the one with the lowest number of the first bus.
    pub fn boot_disk(&self) -> String {
        if let Some(disk) = &self.boot_disk {
            return disk.clone();
        }
        let disks = self.disks();
        let number = |key: &str| {
            let digits = key.trim_start_matches(|c: char| !c.is_ascii_digit());
            digits.parse::<u32>().unwrap_or(u32::MAX)
        };
        let first = disks
            .first()
            .and_then(|(_, disks)| disks.keys().min_by_key(|key| number(key)));
        first.cloned().unwrap_or_else(|| "scsi0".into())
    }

    /// Whether the boot disk is described as a new one, rather than as a volume that exists.
    pub fn boot_disk_is_new(&self) -> bool {
        if self
            .set()
            .get("clone")
            .is_some_and(|clone| !clone.is_null())
        {
            return false;
        }
        let key = self.boot_disk();
        let disks = self.disks();
        let disk = disks.iter().find_map(|(_, disks)| disks.get(&key));
        match disk {
            Some(Value::String(text)) => {
                let volume = text.split(',').next().unwrap_or_default();
                volume.split_once(':').is_some_and(|(storage, size)| {
                    !storage.is_empty()
                        && !size.is_empty()
                        && size.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                })
            }
            Some(Value::Object(disk)) => {
                let has = |key: &str| disk.get(key).is_some_and(|value| !value.is_null());
                has("storage") && !has("import_from") && !has("import-from")
            }
            _ => false,
        }
    }

    /// The boot order while the machine is in `phase`. Until something was written to the disk it comes first, and falls through to the
    /// installer. A disk that may be half written must not be booted: then the installer comes first.
    pub fn boot_order(&self, phase: Phase) -> String {
        let (disk, installer) = (self.boot_disk(), &self.installer_drive);
        match phase {
            Phase::Creating | Phase::Provisioning => format!("order={disk};{installer}"),
            Phase::Installing | Phase::Reinstalling => format!("order={installer};{disk}"),
            Phase::Installed | Phase::Done | Phase::Adopted => format!("order={disk}"),
        }
    }

    /// The options of a Proxmox VE VM that are given by their own names.
    pub fn config(&self) -> Args {
        let set = self.set();
        let config = set.get("config").and_then(Value::as_object);
        config.cloned().unwrap_or_default()
    }

    /// The drives of the boot disk, the installer and the seed, as the record has them.
    pub fn drives(&self) -> String {
        format!(
            "{}/{}/{}",
            self.boot_disk(),
            self.installer_drive,
            self.seed_drive
        )
    }

    /// Whether only the machine itself knows its address.
    pub fn asks_for_address(&self) -> bool {
        let dhcp = self.ip.as_deref() == Some("dhcp");
        dhcp && self.given_address().is_none()
    }

    /// The address that is given, by itself or with the static address.
    pub fn given_address(&self) -> Option<String> {
        let given = self
            .address
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty());
        if let Some(address) = given {
            return Some(
                address
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
            );
        }
        let ip = self
            .ip
            .as_deref()
            .filter(|ip| !ip.is_empty() && *ip != "dhcp")?;
        Some(ip.split('/').next().unwrap_or(ip).to_owned())
    }

    /// The options of a VM that the user set, whatever its phase.
    fn set(&self) -> Args {
        let mut args = Args::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                args.insert(key.to_owned(), value);
            }
        };
        put("memory", self.memory.map(Value::from));
        put("cores", self.cores.map(Value::from));
        put("sockets", self.sockets.map(Value::from));
        put("cpu", self.cpu.clone().map(Value::from));
        put("bios", self.bios.clone().map(Value::from));
        put("machine", self.machine.clone().map(Value::from));
        put("efidisk0", self.efidisk0.clone());
        put("tpmstate0", self.tpmstate0.clone());
        put("agent", self.agent.clone().map(Value::from));
        put("serial", self.serial.as_ref().map(|value| json!(value)));
        put("scsihw", self.scsihw.clone().map(Value::from));
        put("scsi", self.scsi.as_ref().map(|value| json!(value)));
        put("virtio", self.virtio.as_ref().map(|value| json!(value)));
        put("sata", self.sata.as_ref().map(|value| json!(value)));
        put("net", self.net.as_ref().map(|value| json!(value)));
        put("onboot", self.onboot.map(Value::from));
        put("tags", self.tags.as_ref().map(|value| json!(value)));
        put("description", self.description.clone().map(Value::from));
        put("config", self.config.as_ref().map(|value| json!(value)));
        put("pool", self.pool.clone().map(Value::from));
        args.extend(self.further().vm);
        args
    }

    /// The whole description of a machine of ours in `phase`. `installer` is the ISO in the installer's drive, before the end of the
    /// installation.
    pub fn vm(&self, phase: Phase, installer: Option<&str>) -> Args {
        let mut args = self.set();
        let mut default = |key: &str, value: Value| {
            args.entry(key.to_owned()).or_insert(value);
        };
        for (key, value) in NEW {
            default(key, value.into());
        }
        default("cores", NEW_CORES.into());
        default("ostype", "l26".into());
        default("serial", json!({"serial0": "socket"}));
        default("net", json!({"net0": "virtio,bridge=vmbr0"}));
        default("onboot", true.into());
        for (bus, disks) in self.disks() {
            default(bus, Value::Object(disks));
        }
        if args.get("bios").and_then(Value::as_str) == Some("ovmf")
            && !args.contains_key("efidisk0")
        {
            // Without it OVMF forgets its boot entries with every stop.
            args.insert(
                "efidisk0".into(),
                json!({"storage": self.disks_storage, "size": "1G", "efitype": "4m"}),
            );
        }
        let memory = if phase.unfinished() {
            self.install_memory.unwrap_or(self.memory())
        } else {
            self.memory()
        };
        args.insert("memory".into(), memory.into());
        args.insert("boot".into(), self.boot_order(phase).into());
        if let Some(installer) = installer {
            let (bus, key) = (bus_of(&self.installer_drive), self.installer_drive.clone());
            let drive = Value::String(format!("{installer},media=cdrom"));
            let drives = args.entry(bus.to_owned()).or_insert_with(|| json!({}));
            if let Some(drives) = drives.as_object_mut() {
                drives.insert(key, drive);
            }
        }
        if phase.unfinished() {
            // Its drives come and go until it is finished.
            unprotect(&mut args);
            // The record names the volume.
            args.shift_remove("move_disks");
        }
        args.extend(self.identity());
        args
    }

    /// The description of a machine that is being installed anew: of its disks only the boot disk, since the others are detached.
    pub fn vm_with_boot_disk_only(&self, phase: Phase, installer: Option<&str>) -> Args {
        let mut args = self.vm(phase, installer);
        let boot_disk = self.boot_disk();
        let stays = |key: &String| {
            !pve_schema::is_drive(key)
                || pve_schema::is_state_disk(key)
                || [&boot_disk, &self.installer_drive, &self.seed_drive].contains(&key)
        };
        args.retain(|key, _| stays(key));
        for bus in ["ide", "scsi", "virtio", "sata", "config"] {
            if let Some(drives) = args.get_mut(bus).and_then(Value::as_object_mut) {
                drives.retain(|key, _| stays(key));
            }
        }
        args
    }

    /// What a finished or adopted machine is converged to: only what the user set. `has` says whether its configuration has a key.
    pub fn finished(&self, phase: Phase, has: impl Fn(&str) -> bool) -> Args {
        let mut args = self.set();
        let described = ["scsi", "virtio", "sata"]
            .iter()
            .any(|bus| args.contains_key(*bus));
        // The size alone is that of the disk which the role makes; an adopted machine may have none of that name.
        if !described && self.disk_size.is_some() && (phase != Phase::Adopted || has("scsi0")) {
            for (bus, disks) in self.disks() {
                args.insert(bus.to_owned(), Value::Object(disks));
            }
        }
        args.extend(self.identity());
        let state = match self.state {
            Some(Power::Stopped) => "stopped",
            None if phase == Phase::Adopted => "present",
            Some(Power::Started) | None => "started",
        };
        args.insert("state".into(), state.into());
        args.insert("restart".into(), (self.restart == Restart::IfNeeded).into());
        if !self.remove_disks.is_empty() {
            args.insert("remove_disks".into(), json!(self.remove_disks));
        }
        args
    }

    /// The options that say which VM it is.
    pub fn identity(&self) -> Args {
        let mut args = Args::new();
        let name = self.name.clone().filter(|name| !name.is_empty());
        args.extend(name.map(|name| ("name".into(), name.into())));
        args.extend(self.vmid.map(|vmid| ("vmid".into(), vmid.into())));
        args.extend(
            self.vmid_range
                .clone()
                .map(|range| ("vmid_range".into(), range.into())),
        );
        let node = self.node.clone().filter(|node| !node.is_empty());
        args.extend(node.map(|node| ("node".into(), node.into())));
        args
    }

    /// The installer's seed, for a VM; `keys` may log in, `host_key` is the file of its host key.
    pub fn seed(&self, keys: &[String], host_key: &std::path::Path) -> Args {
        let mut args = Args::new();
        args.insert("kind".into(), "nocloud".into());
        args.insert("drive".into(), self.seed_drive.clone().into());
        args.insert("storage".into(), self.iso_storage.clone().into());
        args.insert(
            "hostname".into(),
            self.name.clone().unwrap_or_default().into(),
        );
        args.insert("ssh_authorized_keys".into(), json!(keys));
        let public = host_key.with_extension("pub");
        args.insert(
            "ssh_host_keys".into(),
            json!({"ed25519": {"private_file": host_key, "public_file": public}}),
        );
        args.extend(self.addresses());
        if let Some(data) = &self.user_data {
            args.insert("user_data".into(), Value::Object(data.clone()));
        }
        args.extend(self.further().seed);
        args
    }

    /// No seed any more.
    pub fn no_seed(&self) -> Args {
        let mut args = Args::new();
        args.insert("kind".into(), "nocloud".into());
        args.insert("drive".into(), self.seed_drive.clone().into());
        args.insert("storage".into(), self.iso_storage.clone().into());
        args.insert("state".into(), "absent".into());
        args
    }

    /// The cloud-init drive that an installed system keeps.
    pub fn kept_drive(&self) -> Option<Args> {
        if self.cloudinit == Cloudinit::Remove {
            return None;
        }
        let mut args = Args::new();
        args.insert("kind".into(), "native".into());
        args.insert("drive".into(), self.seed_drive.clone().into());
        args.insert("storage".into(), self.disks_storage.clone().into());
        if !self.authorized_keys.is_empty() {
            args.insert("sshkeys".into(), self.authorized_keys.join("\n").into());
            args.insert("ciuser".into(), self.ssh_user.clone().into());
        }
        args.extend(self.addresses());
        Some(args)
    }

    /// The addresses of its NICs, as `cloudinit_drive` takes them.
    pub fn addresses(&self) -> Args {
        let mut args = Args::new();
        let mut nics = self.ipconfig.clone().unwrap_or_default();
        if let Some(ip) = self.ip.as_deref().filter(|ip| !ip.is_empty()) {
            let gateway = self
                .gateway
                .as_deref()
                .filter(|gw| !gw.is_empty() && ip != "dhcp");
            let gateway = gateway.map(|gw| format!(",gw={gw}")).unwrap_or_default();
            nics.entry("ipconfig0".into())
                .or_insert_with(|| format!("ip={ip}{gateway}").into());
        }
        if !nics.is_empty() {
            args.insert("ipconfig".into(), json!(nics));
        }
        if let Some(servers) = self.nameservers.as_ref().filter(|list| !list.is_empty()) {
            args.insert("nameservers".into(), json!(servers));
        }
        if let Some(domains) = self.searchdomains.as_ref().filter(|list| !list.is_empty()) {
            args.insert("searchdomains".into(), json!(domains));
        }
        args
    }

    /// The installation itself. `store_paths` is what was built already.
    pub fn install(&self, store_paths: Option<&Value>) -> Args {
        let mut args = Args::new();
        args.insert("build_on".into(), self.build_on.clone().into());
        args.insert("timeout".into(), self.install_timeout.into());
        match store_paths {
            Some(paths) => args.insert("store_paths".into(), paths.clone()),
            None => args.insert(
                "flake".into(),
                self.flake.clone().unwrap_or_default().into(),
            ),
        };
        if let Some(tools) = &self.tools_path {
            args.insert("tools_path".into(), json!(tools));
        }
        if !self.disk_encryption_keys.is_empty() {
            args.insert(
                "disk_encryption_keys".into(),
                json!(self.disk_encryption_keys),
            );
        }
        if let Some(tree) = &self.extra_files_dir {
            args.insert("extra_files_dir".into(), json!(tree));
        }
        let files: Vec<Value> = self
            .extra_files
            .iter()
            .map(|file| {
                let mut args = Args::new();
                args.insert("path".into(), file.path.clone().into());
                args.extend(file.src.as_ref().map(|src| ("src".into(), json!(src))));
                args.extend(
                    file.content
                        .as_ref()
                        .map(|content| ("content".into(), content_text(content))),
                );
                args.extend(file.mode.clone().map(|mode| ("mode".into(), mode.into())));
                args.extend(
                    file.owner
                        .clone()
                        .map(|owner| ("owner".into(), owner.into())),
                );
                Value::Object(args)
            })
            .collect();
        if !files.is_empty() {
            args.insert("extra_files".into(), files.into());
        }
        args.extend(self.further().install);
        args
    }

    /// The installer ISO on the storage of `node`; `built` is the file that Nix made.
    pub fn iso(&self, node: &str, built: Option<&std::path::Path>) -> Args {
        let mut args = Args::new();
        args.insert("node".into(), node.into());
        args.insert("storage".into(), self.iso_storage.clone().into());
        let source = self.installer_iso.clone().unwrap_or_default();
        match self.installer_source {
            InstallerSource::Path => {
                args.insert("src".into(), source.into());
            }
            InstallerSource::Url => {
                args.insert("url".into(), source.into());
            }
            InstallerSource::Build => {
                args.insert("src".into(), json!(built));
                // Every build is another file on the storage: a part of the hash in its directory's name distinguishes them.
                args.extend(
                    built
                        .and_then(built_name)
                        .map(|name| ("name".into(), name.into())),
                );
            }
            InstallerSource::Release => {
                let mut release = json!({
                    "repo": self.installer_repo, "tag": self.installer_tag, "asset": self.installer_asset,
                    "api_url": self.installer_api_url,
                });
                if let Some(token) = self
                    .installer_token
                    .as_ref()
                    .filter(|token| !token.is_empty())
                {
                    release["token"] = token.expose().into();
                }
                args.insert("github_release".into(), release);
                args.insert("download_by".into(), "controller".into());
            }
        }
        args.extend(
            self.installer_name
                .clone()
                .map(|name| ("name".into(), name.into())),
        );
        args.extend(
            self.installer_checksum
                .clone()
                .map(|sum| ("checksum".into(), sum.into())),
        );
        args.extend(self.further().iso);
        args
    }
}

/// The variable that stands for an option of `proxmox_iso`, such as `checksum` or `github_release.token`.
pub fn iso_variable(source: InstallerSource, option: &str) -> String {
    let variable = match option {
        "src" if source == InstallerSource::Build => "installer_flake",
        "src" | "url" => "installer_iso",
        "checksum" => "installer_checksum",
        "name" => "installer_name",
        "storage" => "iso_storage",
        "node" => "node",
        option => match option.strip_prefix("github_release.") {
            Some(part) => return format!("{PREFIX}installer_{part}"),
            None => return format!("{PREFIX}iso_options.{option}"),
        },
    };
    format!("{PREFIX}{variable}")
}

fn built_name(file: &std::path::Path) -> Option<String> {
    // /nix/store/HASH-NAME/iso/FILE.iso
    let hash = file.parent()?.parent()?.file_name()?.to_string_lossy();
    let stem = file.file_stem()?.to_string_lossy();
    Some(format!(
        "{stem}-{}.iso",
        hash.chars().take(8).collect::<String>()
    ))
}

/// The text of an extra file: a dict or list as JSON, which an older ansible-core makes of a text that looks like it.
fn content_text(content: &Value) -> Value {
    match content {
        Value::String(_) => content.clone(),
        Value::Null => Value::String(String::new()),
        other => Value::String(other.to_string()),
    }
}

/// The bus of a drive: `ide` of `ide2`.
pub fn bus_of(drive: &str) -> &str {
    drive.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn unprotect(args: &mut Args) {
    if args.contains_key("protection") {
        args.insert("protection".into(), false.into());
    }
    if let Some(config) = args.get_mut("config").and_then(Value::as_object_mut)
        && config.contains_key("protection")
    {
        config.insert("protection".into(), false.into());
    }
}

/// Whether the user wants the finished machine protected.
pub fn protection(settings: &Settings) -> Option<Value> {
    let set = settings.set();
    let config = set
        .get("config")
        .and_then(|config| config.get("protection"));
    set.get("protection").or(config).cloned()
}

/// A dict of the group with the host's over it; dicts within are merged too.
fn merged(group: &Option<Args>, host: &Option<Args>) -> Args {
    let mut all = group.clone().unwrap_or_default();
    for (key, value) in host.iter().flatten() {
        merge(all.entry(key.clone()).or_insert(Value::Null), value);
    }
    all
}

fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_iso_have_variables() {
        use InstallerSource::{Build, Release, Url};
        for (source, option, variable) in [
            (Url, "url", "nixos_vm_installer_iso"),
            (Url, "checksum", "nixos_vm_installer_checksum"),
            (Build, "src", "nixos_vm_installer_flake"),
            (Release, "github_release.token", "nixos_vm_installer_token"),
            (Url, "node", "nixos_vm_node"),
            (Url, "cache_dir", "nixos_vm_iso_options.cache_dir"),
        ] {
            assert_eq!(iso_variable(source, option), variable);
        }
        let names = schemars::schema_for!(Settings);
        let properties = names.get("properties").and_then(Value::as_object).unwrap();
        for option in [
            "src",
            "url",
            "checksum",
            "name",
            "storage",
            "node",
            "github_release.tag",
        ] {
            let variable = iso_variable(Url, option);
            let name = variable.strip_prefix(PREFIX).unwrap();
            assert!(properties.contains_key(name), "{variable}");
        }
    }
}
