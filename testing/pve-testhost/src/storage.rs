//! Storages: directories of this machine under PVE's names for their volumes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ApiError;

/// How a storage names its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Files in folders by content, images in a folder a VM.
    #[serde(rename = "dir")]
    Dir,
    /// Flat names without folders or extensions, raw images only (really files in one directory).
    #[serde(rename = "zfspool")]
    Zfs,
}

/// One storage of `storage.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Storage {
    /// Its name.
    pub id: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Kinds of content it takes.
    pub content: Vec<String>,
    /// Disabled storages exist but take no operation.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Whether all nodes see the same volumes on it.
    #[serde(default)]
    pub shared: bool,
    /// The nodes that have it; all when nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// Its directory; filled in when the host opens.
    #[serde(skip)]
    pub path: PathBuf,
}

fn enabled() -> bool {
    true
}

/// A volume found on a storage.
#[derive(Debug, Clone)]
pub struct Volume {
    /// `STORAGE:NAME`.
    pub volid: String,
    /// Kind of content.
    pub content: &'static str,
    /// `iso`, `raw`, `qcow2`, ...
    pub format: String,
    /// Its file.
    pub path: PathBuf,
    /// The VM that owns it.
    pub vmid: Option<u32>,
}

/// A volume's name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Kind of content.
    pub content: &'static str,
    /// Its file below the storage's directory.
    pub file: PathBuf,
    /// `iso`, `raw`, ...
    pub format: String,
    /// The VM that owns it.
    pub vmid: Option<u32>,
}

/// Folder in a directory storage, by the first part of a volume's name.
const FOLDERS: [(&str, &str, &str); 5] = [
    ("iso", "iso", "template/iso"),
    ("vztmpl", "vztmpl", "template/cache"),
    ("snippets", "snippets", "snippets"),
    ("import", "import", "import"),
    ("backup", "backup", "dump"),
];

/// The storages of a fresh host; `shared` besides when it has several nodes.
pub fn defaults(several: bool) -> Vec<Storage> {
    let storage = |id: &str, kind, content: &[&str], enabled| Storage {
        id: id.into(),
        kind,
        content: content.iter().map(|name| (*name).to_owned()).collect(),
        enabled,
        shared: false,
        nodes: None,
        path: PathBuf::new(),
    };
    let mut all = vec![
        storage(
            "local",
            Kind::Dir,
            &["iso", "vztmpl", "snippets", "images", "import", "backup"],
            true,
        ),
        storage("local-zfs", Kind::Zfs, &["images", "rootdir"], true),
        storage("noiso", Kind::Dir, &["snippets"], true),
        storage("off", Kind::Dir, &["iso", "images"], false),
    ];
    if several {
        let content = ["iso", "vztmpl", "snippets", "images", "import", "backup"];
        all.push(Storage {
            shared: true,
            ..storage("shared", Kind::Dir, &content, true)
        });
    }
    all
}

impl Storage {
    /// Does it take this kind of content?
    pub fn takes(&self, content: &str) -> bool {
        self.content.iter().any(|known| known == content)
    }

    /// Does this node have it?
    pub fn is_on(&self, node: &str) -> bool {
        let nodes = self.nodes.as_ref();
        nodes.is_none_or(|nodes| nodes.iter().any(|known| known == node))
    }

    /// Fail as PVE does when it is disabled.
    pub fn check_enabled(&self) -> Result<(), String> {
        if self.enabled {
            Ok(())
        } else {
            Err(format!("storage '{}' is disabled", self.id))
        }
    }

    /// Take a volume's name (without the storage) apart.
    pub fn parse(&self, name: &str) -> Result<Name, String> {
        let safe = !name
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..");
        match self.kind {
            // A linked clone's name begins with its base's: `base-101-disk-0/vm-102-disk-0`.
            Kind::Zfs => match split_base(name, 1).and_then(|own| Some((owner(own)?, own))) {
                Some((vmid, own)) => Ok(Name {
                    content: "images",
                    file: PathBuf::from(own),
                    format: "raw".into(),
                    vmid: Some(vmid),
                }),
                None => Err(format!("unable to parse zfs volume name '{name}'")),
            },
            Kind::Dir => {
                let failed = || format!("unable to parse directory volume name '{name}'");
                let (first, rest) = name.split_once('/').filter(|_| safe).ok_or_else(failed)?;
                if let Some((_, content, folder)) =
                    FOLDERS.iter().find(|(prefix, ..)| *prefix == first)
                {
                    if rest.contains('/') || !good_extension(content, rest) {
                        return Err(failed());
                    }
                    let format = match *content {
                        "iso" => "iso".to_owned(),
                        "snippets" => "snippet".to_owned(),
                        _ => rest.rsplit('.').next().unwrap_or_default().to_owned(),
                    };
                    return Ok(Name {
                        content,
                        file: Path::new(folder).join(rest),
                        format,
                        vmid: None,
                    });
                }
                // A linked clone's name begins with its base's: `101/base-101-disk-0.raw/102/vm-102-disk-0.qcow2`.
                let name = split_base(name, 2).ok_or_else(failed)?;
                let (first, rest) = name.split_once('/').ok_or_else(failed)?;
                let vmid: u32 = first.parse().map_err(|_| failed())?;
                let format = match rest.rsplit_once('.') {
                    Some((_, format @ ("raw" | "qcow2" | "vmdk"))) if !rest.contains('/') => {
                        format.to_owned()
                    }
                    _ => return Err(failed()),
                };
                Ok(Name {
                    content: "images",
                    file: Path::new("images").join(name),
                    format,
                    vmid: Some(vmid),
                })
            }
        }
    }

    /// The file of a volume.
    pub fn file(&self, name: &str) -> Result<PathBuf, String> {
        Ok(self.path.join(self.parse(name)?.file))
    }

    /// Folder for uploaded content.
    pub fn folder(&self, content: &str) -> PathBuf {
        let folder = FOLDERS
            .iter()
            .find(|(_, known, _)| *known == content)
            .map_or("images", |(.., folder)| folder);
        self.path.join(folder)
    }

    /// The name (without the storage) of a new image of a VM: `vm-101-disk-0` with what the storage puts around it.
    pub fn image_name(&self, vmid: u32, base: &str, format: &str) -> String {
        match self.kind {
            Kind::Dir => format!("{vmid}/{base}.{format}"),
            Kind::Zfs => base.to_owned(),
        }
    }

    /// The first free `vm-ID-disk-N`.
    pub fn free_disk(&self, vmid: u32) -> String {
        let taken: Vec<String> = self.list().into_iter().map(|volume| volume.volid).collect();
        let is_taken = |base: &str| {
            taken.iter().any(|volid| {
                let name = volid
                    .split_once(':')
                    .map_or("", |(_, name)| name)
                    .rsplit('/')
                    .next()
                    .unwrap_or("");
                name.split('.')
                    .next()
                    .map(|stem| stem.replacen("base-", "vm-", 1))
                    .as_deref()
                    == Some(base)
            })
        };
        (0..)
            .map(|n| format!("vm-{vmid}-disk-{n}"))
            .find(|base| !is_taken(base))
            .unwrap_or_default()
    }

    /// All volumes.
    pub fn list(&self) -> Vec<Volume> {
        let mut found = Vec::new();
        let mut add = |name: String| {
            if let Ok(parsed) = self.parse(&name) {
                found.push(Volume {
                    volid: format!("{}:{name}", self.id),
                    content: parsed.content,
                    format: parsed.format,
                    path: self.path.join(parsed.file),
                    vmid: parsed.vmid,
                });
            }
        };
        match self.kind {
            Kind::Zfs => names(&self.path).into_iter().for_each(&mut add),
            Kind::Dir => {
                for (prefix, _, folder) in FOLDERS {
                    names(&self.path.join(folder))
                        .into_iter()
                        .for_each(|name| add(format!("{prefix}/{name}")));
                }
                for vmid in names(&self.path.join("images")) {
                    names(&self.path.join("images").join(&vmid))
                        .into_iter()
                        .for_each(|name| add(format!("{vmid}/{name}")));
                }
            }
        }
        found.sort_by(|a, b| a.volid.cmp(&b.volid));
        found
    }

    /// Bytes: total, used, available.
    pub fn space(&self) -> (u64, u64, u64) {
        match rustix::fs::statvfs(&self.path) {
            Ok(info) => {
                let (total, free) = (info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize);
                (
                    total,
                    total - (info.f_bfree * info.f_frsize).min(total),
                    free,
                )
            }
            Err(_) => (0, 0, 0),
        }
    }

    /// As GET storage lists it.
    pub fn status_json(&self) -> Value {
        let (total, used, avail) = if self.enabled {
            self.space()
        } else {
            (0, 0, 0)
        };
        let mut value = json!({
            "content": self.content.join(","), "type": self.kind, "enabled": u8::from(self.enabled),
            "active": u8::from(self.enabled), "shared": u8::from(self.shared), "total": total, "used": used, "avail": avail,
        });
        if total > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a fraction")]
            let fraction = used as f64 / total as f64;
            value["used_fraction"] = json!(fraction);
        }
        value
    }

    /// As GET /storage shows its configuration.
    pub fn config_json(&self) -> Value {
        let mut value = json!({
            "storage": self.id, "type": self.kind, "content": self.content.join(","), "digest": "0".repeat(40),
        });
        match self.kind {
            Kind::Dir => value["path"] = json!(self.path),
            Kind::Zfs => value["pool"] = json!(format!("rpool/{}", self.id)),
        }
        if self.shared {
            value["shared"] = json!(1);
        }
        if !self.enabled {
            value["disable"] = json!(1);
        }
        if let Some(nodes) = &self.nodes {
            value["nodes"] = json!(nodes.join(","));
        }
        value
    }

    /// Make its folders.
    pub fn prepare(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.path)?;
        if self.kind == Kind::Dir {
            for (_, _, folder) in FOLDERS {
                std::fs::create_dir_all(self.path.join(folder))?;
            }
            std::fs::create_dir_all(self.path.join("images"))?;
        }
        Ok(())
    }
}

impl Volume {
    /// As the content list shows it, sizes exact.
    pub fn json(&self) -> Value {
        let meta = std::fs::metadata(&self.path).ok();
        let ctime = meta.as_ref().map_or(0, MetadataExt::mtime);
        let mut value = json!({"volid": self.volid, "content": self.content, "format": self.format, "ctime": ctime});
        if self.content == "images" {
            value["size"] = json!(crate::disk::virtual_size(&self.path).unwrap_or(0));
            value["used"] = json!(meta.map_or(0, |meta| meta.blocks() * 512));
            value["parent"] = Value::Null;
            value["vmid"] = json!(self.vmid);
        } else {
            value["size"] = json!(meta.map_or(0, |meta| meta.len()));
        }
        value
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn good_extension(content: &str, name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let any = |list: &[&str]| {
        list.iter()
            .any(|end| lower.ends_with(end) && lower.len() > end.len())
    };
    match content {
        "iso" => any(&[".iso", ".img"]),
        "vztmpl" => any(&[".tar.gz", ".tar.xz", ".tar.zst", ".tar"]),
        "import" => any(&[".ova", ".ovf", ".qcow2", ".raw", ".vmdk"]),
        _ => true,
    }
}

/// A volume's own name, of `parts` parts, without the name of the base it is a linked clone of.
fn split_base(name: &str, parts: usize) -> Option<&str> {
    let count = name.split('/').count();
    if count == parts {
        return Some(name);
    }
    let at = name.match_indices('/').nth(parts - 1)?.0;
    let is_base = name[..at].rsplit('/').next()?.starts_with("base-");
    (count == 2 * parts && is_base).then(|| &name[at + 1..])
}

/// The VM of `vm-101-...` or `base-101-...`.
fn owner(name: &str) -> Option<u32> {
    let rest = name
        .strip_prefix("vm-")
        .or_else(|| name.strip_prefix("base-"))?;
    let (vmid, rest) = rest.split_once('-')?;
    (!rest.is_empty()).then(|| vmid.parse().ok())?
}

/// What PVE makes of an uploaded file's name: no directory, no character outside `[A-Za-z0-9_.-]`.
pub fn normalize_name(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    base.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "_.-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// Check an uploaded file's (normalised) name.
pub fn check_name(content: &str, name: &str) -> Result<(), ApiError> {
    let problem = match content {
        // UPLOAD_IMPORT_EXT_RE_1 of PVE::Storage, which is stricter than what it lists.
        "import" => {
            let extensions = [".ova", ".qcow2", ".raw", ".vmdk"];
            let good = extensions
                .iter()
                .any(|end| name.ends_with(end) && name.len() > end.len());
            (!good).then_some("invalid filename or wrong extension")
        }
        _ => (!good_extension(content, name)).then_some("wrong file extension"),
    };
    problem.map_or(Ok(()), |problem| Err(ApiError::param("filename", problem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_pve_makes_them() {
        assert_eq!(normalize_name("../x/na me+ä;(1).iso"), "na_me____1_.iso");
        assert!(check_name("iso", "UP.ISO").is_ok());
        assert!(check_name("iso", "x.txt").is_err());
        assert!(check_name("import", "x.qcow2").is_ok());
        assert!(check_name("import", "x.QCOW2").is_err());
        assert!(check_name("import", "x.ovf").is_err());
    }

    #[test]
    fn volume_names() {
        let [dir, zfs, ..] = &defaults(false)[..] else {
            unreachable!("there are four")
        };
        assert_eq!(
            dir.parse("0.5G"),
            Err("unable to parse directory volume name '0.5G'".into())
        );
        assert_eq!(
            dir.parse("101/vm-101-disk-0.raw").map(|name| name.vmid),
            Ok(Some(101))
        );
        let linked = dir.parse("101/base-101-disk-0.raw/102/vm-102-disk-0.qcow2");
        let linked = linked.map(|name| (name.vmid, name.file));
        let file = PathBuf::from("images/102/vm-102-disk-0.qcow2");
        assert_eq!(linked, Ok((Some(102), file)));
        assert!(
            dir.parse("101/vm-101-disk-0.raw/102/vm-102-disk-0.qcow2")
                .is_err()
        );
        assert_eq!(
            zfs.parse("base-101-disk-0/vm-102-disk-0")
                .map(|name| name.vmid),
            Ok(Some(102))
        );
        assert!(dir.parse("iso/../../x.iso").is_err());
        assert_eq!(dir.parse("iso/x.iso").map(|name| name.content), Ok("iso"));
        assert_eq!(
            zfs.parse("vm-101-disk-0").map(|name| name.vmid),
            Ok(Some(101))
        );
        assert!(zfs.parse("iso/x.iso").is_err());
    }
}
