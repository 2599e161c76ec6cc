//! The options for a machine whose boot disk is a copy of a disk image.

use std::path::{Path, PathBuf};

use pve_client::property::parse_size;
use pve_client::sha256_bytes;
use serde_json::{Map, Value, json};

use crate::module_args::further::Args;
use crate::module_args::vm::bus_of;
use crate::options::{Cloudinit, DiskImageSource, Method, Settings, given};

impl Settings {
    /// Whether a new machine gets its system from a disk image.
    pub fn by_image(&self) -> bool {
        self.method == Method::Image
    }

    /// The storage of the disk image.
    pub fn disk_image_storage(&self) -> &str {
        given(self.disk_image_storage.as_ref()).unwrap_or(&self.iso_storage)
    }

    /// What Nix builds: the attribute of the flake that `nixos-rebuild build-image` builds, too (`system.build.images`).
    pub fn disk_image_attribute(&self) -> Option<String> {
        let flake = given(self.disk_image_flake.as_ref()).or(given(self.flake.as_ref()))?;
        let (uri, name) = flake.split_once('#')?;
        let variant = match (
            given(self.disk_image_variant.as_ref()),
            self.bios.as_deref(),
        ) {
            (Some(variant), _) => variant,
            (None, Some("ovmf")) => "qemu-efi",
            (None, _) => "qemu",
        };
        let name = name.trim_matches('"');
        Some(format!(
            "{uri}#nixosConfigurations.\"{name}\".config.system.build.images.{variant}"
        ))
    }

    /// The disk image on the storage of `node`, as `proxmox_iso` takes it; `built` is the file that Nix made.
    pub fn disk_image(&self, node: &str, built: Option<&Path>) -> Args {
        let mut args = Args::new();
        args.insert("content".into(), "import".into());
        args.insert("node".into(), node.into());
        args.insert("storage".into(), self.disk_image_storage().into());
        let source = self.disk_image.clone().unwrap_or_default();
        match self.disk_image_source {
            DiskImageSource::Path => {
                args.insert("src".into(), source.into());
            }
            DiskImageSource::Url => {
                args.insert("url".into(), source.into());
            }
            DiskImageSource::Build => {
                args.insert("src".into(), json!(built));
                let name = built.and_then(built_name);
                args.extend(name.map(|name| ("name".to_owned(), name.into())));
            }
        }
        for (option, value) in [
            ("name", &self.disk_image_name),
            ("checksum", &self.disk_image_checksum),
        ] {
            args.extend(given(value.as_ref()).map(|value| (option.to_owned(), value.into())));
        }
        args.extend(self.further().iso);
        args
    }

    /// The size of the boot disk in bytes, if it is described.
    pub fn boot_disk_bytes(&self) -> Option<u64> {
        let key = self.boot_disk();
        let disks = self.disks();
        let disk = disks.iter().find_map(|(_, disks)| disks.get(&key))?;
        match in_parts(disk).get("size")? {
            Value::String(size) if size.ends_with(|c: char| c.is_ascii_digit()) => {
                parse_size(&format!("{size}G"))
            }
            Value::String(size) => parse_size(size),
            Value::Number(gib) => parse_size(&format!("{gib}G")),
            _ => None,
        }
    }

    /// Have the boot disk begin as a copy of the image.
    pub(super) fn import_image(&self, args: &mut Args, image: &str) {
        let key = self.boot_disk();
        let disks = args.get_mut(bus_of(&key)).and_then(Value::as_object_mut);
        if let Some(disk) = disks.and_then(|disks| disks.get_mut(&key)) {
            let mut parts = in_parts(disk);
            parts.insert("import_from".into(), image.into());
            *disk = Value::Object(parts);
        }
    }

    /// The seed of a machine that came from a disk image, by its installation and its public host key. `files` are those of the private
    /// keys, which only its first seed has.
    pub fn identity_seed(
        &self,
        installation: &str,
        host_key: &str,
        files: &[(&str, PathBuf)],
    ) -> Args {
        let mut args = Args::new();
        args.insert("kind".into(), "nocloud".into());
        args.insert("drive".into(), self.seed_drive.clone().into());
        args.insert("storage".into(), self.iso_storage.clone().into());
        let hostname = self.name.clone().unwrap_or_default();
        args.insert("hostname".into(), hostname.into());
        let mut data = self.user_data.clone().unwrap_or_default();
        match self.ssh_user.as_str() {
            _ if self.authorized_keys.is_empty() => {}
            "root" => {
                args.insert("ssh_authorized_keys".into(), json!(self.authorized_keys));
            }
            user => add_user(&mut data, user, &self.authorized_keys),
        }
        // A new instance keeps the host keys that there are.
        data.entry("ssh_deletekeys").or_insert(false.into());
        args.insert("user_data".into(), Value::Object(data));
        args.extend(self.addresses());
        args.extend(self.further().seed);
        // cloud-init sets up a system once for each ID. The seed that stays has that of the first one, so that nothing is done twice;
        // another content is another ID, so that it is applied at the next start.
        let content = format!("{installation} {host_key} {}", Value::Object(args.clone()));
        let id = format!("nixos-vm-{}", &sha256_bytes(content.as_bytes())[..16]);
        let meta = args.entry("meta_data").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.entry("instance-id").or_insert_with(|| id.into());
        }
        let keys: Map<String, Value> = files
            .iter()
            .map(|(kind, file)| {
                let public = file.with_extension("pub");
                let pair = json!({"private_file": file, "public_file": public});
                ((*kind).to_owned(), pair)
            })
            .collect();
        if !keys.is_empty() {
            args.insert("ssh_host_keys".into(), Value::Object(keys));
        }
        args
    }

    /// Whether the installed system keeps a drive for cloud-init; `image` says that it came from a disk image.
    pub fn keeps_drive(&self, image: bool) -> bool {
        match self.cloudinit {
            Some(cloudinit) => cloudinit == Cloudinit::Keep,
            None => image,
        }
    }

    /// Variables that a machine made from a disk image has no use for.
    pub fn not_of_images(&self) -> Vec<String> {
        let has = |dict: &Option<Map<String, Value>>| dict.as_ref().is_some_and(|d| !d.is_empty());
        [
            ("extra_files_dir", self.tree().is_some()),
            ("extra_files", !self.extra_files.is_empty()),
            ("persist", !self.persist.is_empty()),
            (
                "disk_encryption_keys",
                !self.disk_encryption_keys.is_empty(),
            ),
            ("install_options", has(&self.install_options)),
            ("host_install_options", has(&self.host_install_options)),
            (
                "user_data.ssh_keys",
                self.user_data
                    .as_ref()
                    .is_some_and(|data| data.contains_key("ssh_keys")),
            ),
            (
                "seed_options.meta_data",
                self.further()
                    .seed
                    .get("meta_data")
                    .is_some_and(|data| !data.is_object()),
            ),
        ]
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| {
            let instead = match name {
                "user_data.ssh_keys" => {
                    "give host keys as nixos_vm_ssh_host_key, or in nixos_vm_host_keys_dir"
                }
                "seed_options.meta_data" => "write it as a dict",
                _ => "leave it out, and have the image contain it",
            };
            format!("nixos_vm_{name}: is not supported with nixos_vm_method: image; {instead}")
        })
        .collect()
    }
}

/// Have keys log in as this user, beside the users that there are.
fn add_user(data: &mut Map<String, Value>, name: &str, keys: &[String]) {
    let users = data.entry("users").or_insert_with(|| json!([]));
    let Some(users) = users.as_array_mut() else {
        return;
    };
    let named = |user: &&mut Value| user.get("name").and_then(Value::as_str) == Some(name);
    let user = match users.iter_mut().find(named) {
        Some(user) => user,
        None => {
            users.push(json!({"name": name}));
            let last = users.len() - 1;
            &mut users[last]
        }
    };
    if let Some(user) = user.as_object_mut() {
        let list = user
            .entry("ssh_authorized_keys")
            .or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            let keys = keys.iter().map(|key| json!(key));
            let new: Vec<Value> = keys.filter(|key| !list.contains(key)).collect();
            list.extend(new);
        }
    }
}

/// A disk in parts: `STORAGE:32,ssd=1` as `{storage: STORAGE, size: 32G, ssd: 1}`.
fn in_parts(disk: &Value) -> Map<String, Value> {
    let Some(text) = disk.as_str() else {
        return disk.as_object().cloned().unwrap_or_default();
    };
    let mut parts = text.split(',');
    let volume = parts.next().unwrap_or_default();
    let mut disk = Map::new();
    if let Some((storage, size)) = volume.trim_start_matches("file=").split_once(':') {
        disk.insert("storage".into(), storage.into());
        disk.insert("size".into(), format!("{size}G").into());
    }
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        disk.insert(key.into(), value.into());
    }
    disk
}

/// The variable that stands for an option of `proxmox_iso`.
pub fn disk_image_variable(source: DiskImageSource, option: &str) -> String {
    let variable = match option {
        "src" if source == DiskImageSource::Build => "disk_image_flake",
        "src" | "url" => "disk_image",
        "checksum" => "disk_image_checksum",
        "name" => "disk_image_name",
        "storage" => "disk_image_storage",
        "node" => "node",
        option => return format!("nixos_vm_iso_options.{option}"),
    };
    format!("nixos_vm_{variable}")
}

/// The name of a built image: every build is another file on the storage, by a part of the hash in its store path.
fn built_name(file: &Path) -> Option<String> {
    // /nix/store/HASH-NAME/FILE.qcow2
    let store_path = file.parent()?.file_name()?.to_string_lossy();
    let hash: String = store_path.chars().take(8).collect();
    let stem = file.file_stem()?.to_string_lossy();
    let ending = match file.extension()?.to_str()? {
        "img" => "raw",
        other => other,
    };
    Some(format!("{stem}-{hash}.{ending}"))
}
