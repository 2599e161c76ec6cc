//! SSH host keys that are made before their machines, so that secrets can be encrypted for them:
//!
//! ```text
//! DIR/HOST/ssh_host_TYPE_key       mode 0600, as it is or encrypted by ansible-vault
//! DIR/HOST/ssh_host_TYPE_key.pub
//! DIR/HOST/sops_rule.yaml          the rule of this host for .sops.yaml
//! DIR/sops.yaml                    the rules of all hosts
//! DIR/known_hosts                  the lines of all hosts
//! ```

pub mod age;
mod sops;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::error::LocalError;
use crate::keys::{self, Given};
use crate::options::{KeyType, Settings};
use crate::store::{Installation, Store, failed};

/// How a file that ansible-vault encrypted begins.
const VAULT: &str = "$ANSIBLE_VAULT;";

/// The keys of one host below `nixos_vm_host_keys_dir`.
#[derive(Debug)]
pub struct HostKeys {
    /// The directory of all hosts.
    all: PathBuf,
    /// That of this one.
    own: Installation,
    host: String,
}

/// What is to be done for a host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The kinds of keys to make.
    pub make: Vec<KeyType>,
    /// Public halves to write, since the private ones are there.
    pub write: Vec<(KeyType, String)>,
    /// The public keys that are there already, `TYPE BASE64`.
    pub known: Vec<(KeyType, String)>,
}

impl Plan {
    /// Whether a file of a key is written.
    pub fn changes(&self) -> bool {
        !self.make.is_empty() || !self.write.is_empty()
    }

    /// The keys as a difference shows them: before and after.
    pub fn difference(&self) -> (Value, Value) {
        let list = |keys: &[(KeyType, String)]| -> Map<String, Value> {
            let entry = |(kind, key): &(KeyType, String)| (kind.name().to_owned(), json!(key));
            keys.iter().map(entry).collect()
        };
        let before = list(&self.known);
        let mut after = before.clone();
        after.extend(list(&self.write));
        for kind in &self.make {
            after.insert(kind.name().to_owned(), json!("a new key"));
        }
        (Value::Object(before), Value::Object(after))
    }
}

/// The name of a private key.
fn file_name(kind: KeyType) -> String {
    format!("ssh_host_{}_key", kind.name())
}

impl HostKeys {
    /// Those of this host, if `nixos_vm_host_keys_dir` is set.
    pub fn new(settings: &Settings, host: &str) -> Option<Self> {
        let dir = settings.host_keys_dir.as_ref()?;
        // A name of dots alone would be another directory.
        let name = match host.trim_matches('.') {
            "" => format!("_{host}"),
            _ => host.replace('/', "_"),
        };
        (!dir.as_os_str().is_empty()).then(|| Self {
            all: dir.clone(),
            own: Store::new(dir.clone()).installation(&name),
            host: host.to_owned(),
        })
    }

    /// What is wrong with the variables for the files of this directory.
    pub fn mistakes(&self, settings: &Settings) -> Vec<String> {
        let mut mistakes = Vec::new();
        // Each host has a directory of its name there, beside the files of all hosts.
        if self.host.contains('/') || ["sops.yaml", "known_hosts"].contains(&self.host.as_str()) {
            mistakes.push(format!(
                "nixos_vm_host_keys_dir: {} cannot be the name of a directory in it; give nixos_vm_ssh_host_key for this host",
                self.host
            ));
        }
        for (index, recipient) in settings.sops_recipients.iter().enumerate() {
            if let Some(problem) = sops::mistake(recipient) {
                // Its text may be a private key.
                mistakes.push(format!(
                    "nixos_vm_sops_recipients: item {} {problem}",
                    index + 1
                ));
            }
        }
        mistakes
    }

    /// The directory of all hosts.
    pub fn dir(&self) -> &Path {
        &self.all
    }

    /// The private keys, for an installation.
    ///
    /// # Errors
    /// Every key that is missing, encrypted or unreadable, as a mistake in the variable.
    pub fn private(&self, kinds: &[KeyType]) -> Result<Vec<Given>, Vec<String>> {
        let mut found = Vec::new();
        let mut mistakes = Vec::new();
        for kind in kinds {
            let path = self.own.path(&file_name(*kind));
            let origin = format!("nixos_vm_host_keys_dir: {}", path.display());
            match fs::read_to_string(&path) {
                Ok(text) if text.starts_with(VAULT) => mistakes.push(format!(
                    "{origin} is encrypted by ansible-vault, which only Ansible reads; set nixos_vm_ssh_host_key: \
                     {{private: \"{{{{ lookup('ansible.builtin.file', '{}', errors='ignore') }}}}\"}}",
                    path.display()
                )),
                Ok(private) => found.push(Given { origin, private, key: Some(*kind) }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => mistakes.push(format!(
                    "{origin} does not exist; make it with playbooks/keys.yml"
                )),
                Err(error) => mistakes.push(format!("{origin}: cannot be read: {error}")),
            }
        }
        match mistakes.is_empty() {
            true => Ok(found),
            false => Err(mistakes),
        }
    }

    /// What is to be done, by what is there.
    ///
    /// # Errors
    /// Every mistake in the variables and every key whose halves do not belong together.
    pub fn plan(&self, settings: &Settings) -> Result<Plan, Vec<String>> {
        let brought = keys::brought(settings)?;
        let mut plan = Plan::default();
        let mut mistakes = Vec::new();
        if brought.is_empty() {
            for kind in &settings.ssh_host_key_types {
                if let Err(mistake) = self.add(*kind, &mut plan) {
                    mistakes.push(mistake);
                }
            }
        }
        for given in &brought {
            match keys::checked(given) {
                Ok((_, public, kind)) => {
                    let public = keys::without_comment(&public);
                    match keys::public(&self.own, &file_name(kind)) {
                        Some(known) if known == public => plan.known.push((kind, public)),
                        Some(_) => mistakes.push(format!(
                            "{}: is another key than {}.pub; delete that file if this one counts",
                            given.origin,
                            self.own.path(&file_name(kind)).display()
                        )),
                        None => plan.write.push((kind, public)),
                    }
                }
                Err(error) => mistakes.push(error.to_string()),
            }
        }
        match mistakes.is_empty() {
            true => Ok(plan),
            false => Err(mistakes),
        }
    }

    /// Add what is to be done for a key of this kind.
    fn add(&self, kind: KeyType, plan: &mut Plan) -> Result<(), String> {
        let path = self.own.path(&file_name(kind));
        let public = keys::public(&self.own, &file_name(kind));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if public.is_some() {
                    return Err(format!(
                        "{path}.pub: its private key {path} is missing; put it back, or delete the public key to have a new pair made",
                        path = path.display()
                    ));
                }
                plan.make.push(kind);
                return Ok(());
            }
            Err(error) => return Err(format!("{}: cannot be read: {error}", path.display())),
        };
        if text.starts_with(VAULT) {
            let public = public.ok_or_else(|| {
                format!(
                    "{path}.pub: is missing; write it anew: ansible-vault view {path} | ssh-keygen -y -f /dev/stdin",
                    path = path.display()
                )
            })?;
            plan.known.push((kind, public));
            return Ok(());
        }
        let given = Given {
            origin: path.display().to_string(),
            private: text,
            key: Some(kind),
        };
        let (_, found, _) = keys::checked(&given).map_err(|error| error.to_string())?;
        let found = keys::without_comment(&found);
        match public {
            Some(public) if public == found => plan.known.push((kind, found)),
            Some(_) => {
                return Err(format!(
                    "{path}.pub: belongs to another key than {path}; delete the one that is wrong",
                    path = path.display()
                ));
            }
            None => plan.write.push((kind, found)),
        }
        Ok(())
    }

    /// Make and write the keys; returns all public ones.
    ///
    /// # Errors
    /// Kinds `file`, `tool_missing` and `tool_failed`.
    pub fn apply(&self, plan: &Plan, settings: &Settings) -> Result<Vec<String>, LocalError> {
        self.own.make()?;
        let mut all: Vec<String> = plan.known.iter().map(|(_, key)| key.clone()).collect();
        for (kind, public) in &plan.write {
            let text = format!("{public} {}\n", self.host);
            self.own
                .write(&format!("{}.pub", file_name(*kind)), &text)?;
            all.push(public.clone());
        }
        for kind in &plan.make {
            let name = file_name(*kind);
            let password = settings.host_keys_vault_password_file.as_deref();
            let finish = |file: &Path| match password {
                Some(password) if !password.as_os_str().is_empty() => encrypt(file, password),
                _ => Ok(()),
            };
            keys::make_pair(&self.own, &name, *kind, &self.host, finish)?;
            all.extend(keys::public(&self.own, &name));
        }
        all.sort();
        Ok(all)
    }

    /// Write the rule of this host, and those of all hosts as one file; returns whether that file changed.
    ///
    /// # Errors
    /// Kind `file`.
    pub fn write_rules(&self, own: &[String], settings: &Settings) -> Result<bool, LocalError> {
        let rule = (!own.is_empty()).then(|| {
            let all = [settings.sops_recipients.as_slice(), own].concat();
            sops::rule(&self.host, &all)
        });
        match rule {
            Some(rule) if self.own.read(RULE).as_deref() != Some(rule.trim()) => {
                self.own.write(RULE, &rule)?;
            }
            Some(_) => {}
            None => drop(self.own.remove(&[RULE.to_owned()])?),
        }
        let entries = fs::read_dir(&self.all).map_err(|error| failed("read", &self.all, error))?;
        let mut hosts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        hosts.sort();
        let rules = hosts
            .iter()
            .filter_map(|host| fs::read_to_string(host.join(RULE)).ok());
        let text = sops::file(rules);
        let path = self.all.join("sops.yaml");
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            return Ok(false);
        }
        crate::store::write_private(&path, &text).map_err(|error| failed("write", &path, error))?;
        Ok(true)
    }
}

/// The host keys that were there before the installation: those that the user brings, else those that `playbooks/keys.yml` made.
///
/// # Errors
/// Every file that cannot be read.
pub fn given(settings: &Settings, host: &str) -> Result<Vec<Given>, Vec<String>> {
    let brought = keys::brought(settings)?;
    match HostKeys::new(settings, host) {
        Some(keys) if brought.is_empty() => keys.private(&settings.ssh_host_key_types),
        _ => Ok(brought),
    }
}

/// What is wrong with the host keys that are there before the installation.
pub fn check(settings: &Settings, host: &str) -> Vec<String> {
    match given(settings, host) {
        Ok(given) => keys::check(&given),
        Err(mistakes) => mistakes,
    }
}

/// Make the keys of an installation that are missing, and take over those that are there before.
///
/// # Errors
/// Kind `private_key`: a key that OpenSSH cannot use, or no `ssh-keygen`.
pub fn make(
    installation: &Installation,
    host: &str,
    settings: &Settings,
) -> Result<(), LocalError> {
    let given = given(settings, host).map_err(LocalError::HostKeys)?;
    keys::make(installation, host, settings, &given).map(drop)
}

/// The file with the rule of one host.
const RULE: &str = "sops_rule.yaml";

/// Encrypt a file in its place.
fn encrypt(file: &Path, password: &Path) -> Result<(), LocalError> {
    let mut command = Command::new("ansible-vault");
    // The password file alone counts, whatever identities the user's configuration names.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ANSIBLE_VAULT_") {
            command.env_remove(name);
        }
    }
    // Ansible takes only a file with this ending for one. The directory is removed with the key's.
    let config = file.with_file_name("ansible.cfg");
    fs::write(&config, "").map_err(|error| failed("write", &config, error))?;
    let output = command
        .env("ANSIBLE_CONFIG", &config)
        .arg("encrypt")
        .args(["--encrypt-vault-id", "default"])
        .arg("--vault-password-file")
        .arg(password)
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .map_err(LocalError::NoVault)?;
    let encrypted = || fs::read_to_string(file).is_ok_and(|text| text.starts_with(VAULT));
    if output.status.success() && encrypted() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    Err(LocalError::Vault {
        said: last.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests;
