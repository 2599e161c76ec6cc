//! The options of `cloudinit_drive`, for the installer and for the installed system.

use pve_module::record::Record;
use serde_json::{Value, json};

use crate::module_args::further::Args;
use crate::options::Settings;

impl Settings {
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

    /// The cloud-init drive that an installed system keeps, by the record of its installation.
    pub fn kept_drive(&self, record: &Record) -> Option<Args> {
        if !self.keeps_drive(record.image.is_some()) {
            return None;
        }
        if record.image.is_some() {
            let host_key = record.host_key.as_deref().unwrap_or_default();
            return Some(self.identity_seed(&record.installation, host_key, &[]));
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
        let nics = self.ipconfigs();
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
}
