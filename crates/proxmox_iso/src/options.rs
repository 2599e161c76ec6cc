//! What a task can ask for.

use std::path::PathBuf;

use ansible_module::Failure;
use pve_client::volid::{is_iso_name, normalise_upload_name};
use pve_module::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of the module.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Options {
    /// Where the API is and who asks.
    #[serde(flatten)]
    pub connection: Connection,

    /// Node through which the storage is reached.
    pub node: String,

    /// Storage with the content type V(iso).
    pub storage: String,

    /// Whether the ISO should be there.
    #[serde(default)]
    pub state: State,

    /// Name of the ISO on the storage; it ends in C(.iso) or C(.img). Characters other than
    /// letters, digits, C(.), C(_) and C(-) become C(_), as Proxmox VE does it. Without it the
    /// name of the O(src) or O(url) is used.
    pub name: Option<String>,

    /// Local file to upload. It is streamed: memory use does not depend on its size.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub src: Option<PathBuf>,

    /// Address (http or https) from which the node itself downloads the ISO. The caller needs
    /// Sys.AccessNetwork on the node, or Sys.Audit and Sys.Modify on C(/).
    pub url: Option<String>,

    /// What the ISO's content must be, as V(sha256:HEX). Proxmox VE compares it with what arrived
    /// and keeps nothing else. Without it O(src) is read twice, once to hash it, so that a
    /// damaged transfer is noticed in any case.
    pub checksum: Option<String>,

    /// Replace an ISO of this name that differs, or that is not known to be the same. An upload
    /// replaces it only when it arrived whole; for a O(url) the old one has to be deleted first.
    #[serde(default)]
    pub force: bool,

    /// Longest time for the whole task, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout: u64,

    /// File to append progress to, one JSON object a line.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub progress_path: Option<PathBuf>,
}

/// Whether the ISO should be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is on the storage.
    #[default]
    Present,
    /// It is not.
    Absent,
}

fn default_timeout() -> u64 {
    3600
}

impl Options {
    /// The name of the ISO on the storage.
    ///
    /// # Errors
    /// Kind `invalid_option` when there is none or PVE would not take it.
    pub fn iso_name(&self) -> Result<String, Failure> {
        let given = match (&self.name, &self.src, &self.url) {
            (Some(name), ..) => name.clone(),
            (None, Some(src), _) => src
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            (None, None, Some(url)) => url_file_name(url),
            (None, None, None) => String::new(),
        };
        let name = normalise_upload_name(&given);
        if !is_iso_name(&name) {
            return Err(Failure::new(
                "invalid_option",
                format!("'{given}' is no name for an ISO: it must end in .iso or .img"),
            )
            .hint("set name"));
        }
        Ok(name)
    }

    /// The SHA-256 that was asked for, as 64 lower-case hex digits.
    ///
    /// # Errors
    /// Kind `invalid_option` when it is not of the form `sha256:HEX`.
    pub fn sha256(&self) -> Result<Option<String>, Failure> {
        let Some(text) = &self.checksum else {
            return Ok(None);
        };
        let digits = text.trim().strip_prefix("sha256:").unwrap_or_default();
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::new(
                "invalid_option",
                format!("checksum '{text}' is not sha256: and 64 hex digits"),
            ));
        }
        Ok(Some(digits.to_ascii_lowercase()))
    }
}

/// The last part of a URL's path.
fn url_file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    path.split_once('/')
        .and_then(|(_, path)| path.rsplit('/').next())
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn options(more: Value) -> Options {
        let mut all = json!({"api_host": ["pve1"], "node": "pve", "storage": "local"});
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_name_comes_from_the_source() {
        let name = |more| options(more).iso_name();
        assert_eq!(name(json!({"src": "/a/b c.iso"})).unwrap(), "b_c.iso");
        assert_eq!(
            name(json!({"url": "https://x.example/a/nixos.iso?token=1"})).unwrap(),
            "nixos.iso"
        );
        assert_eq!(
            name(json!({"src": "/a/b.iso", "name": "x.img"})).unwrap(),
            "x.img"
        );
        assert_eq!(
            name(json!({"url": "https://x.example"})).unwrap_err().kind,
            "invalid_option"
        );
        assert!(name(json!({"src": "/a/b.qcow2"})).is_err());
    }

    #[test]
    fn checksums_of_one_form() {
        let sha256 = |text: &str| options(json!({"checksum": text})).sha256();
        assert_eq!(
            sha256(&format!("sha256:{}", "AB".repeat(32)))
                .unwrap()
                .unwrap(),
            "ab".repeat(32)
        );
        assert!(sha256("sha256:abc").is_err());
        assert!(sha256(&"ab".repeat(32)).is_err());
        assert_eq!(options(json!({})).sha256().unwrap(), None);
    }
}
