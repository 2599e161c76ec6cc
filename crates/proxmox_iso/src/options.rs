//! What a task can ask for.

use std::path::PathBuf;

use ansible_module::{Failure, Secret};
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
    /// name of the source is used. With O(state=absent) it may be a pattern with C(*) and C(?): all
    /// ISOs of such names are deleted, except those that a VM uses.
    pub name: Option<String>,

    /// Local file to upload. It is streamed: memory use does not depend on its size.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub src: Option<PathBuf>,

    /// Address (http or https) of the ISO. User and password in it are never sent to another host
    /// that it redirects to.
    pub url: Option<String>,

    /// Asset of a GitHub release. Its digest, if the release has one, is the O(checksum).
    pub github_release: Option<GithubRelease>,

    /// Who downloads a O(url) or O(github_release).
    #[serde(default)]
    pub download_by: DownloadBy,

    /// What the ISO's content must be: V(sha256:HEX), or V(sha256:URL) of a file of checksums as
    /// C(sha256sum) and BSD's C(sha256) write them, in which the source's name is looked up.
    /// Proxmox VE compares it with what arrived and keeps nothing else. Without it O(src) is read
    /// twice, once to hash it, so that a damaged transfer is noticed in any case.
    pub checksum: Option<String>,

    /// Directory in which downloads by the controller are kept, and taken from again when their
    /// checksum is known. Without it nothing is stored on the controller: the download flows into
    /// the upload.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub cache_dir: Option<PathBuf>,

    /// Replace an ISO of this name that differs, or that is not known to be the same. An upload
    /// replaces it only when it arrived whole; for a download by the node the old one has to be
    /// deleted first. One that a running VM uses is never replaced. With O(state=absent): delete it
    /// even if a VM uses it.
    #[serde(default)]
    pub force: bool,

    /// Longest time for the whole task, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout: u64,

    /// File to append progress to, one JSON object a line, each with its C(time) and C(event): a
    /// V(step) begins (C(step), C(object)); a V(transfer) has come so far (C(sent) and C(size) in
    /// bytes, C(rate) in bytes per second), twice a second; a task of Proxmox VE's is awaited
    /// (V(wait) with C(upid) and C(seconds)).
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

/// Who downloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DownloadBy {
    /// The node. The caller needs Sys.AccessNetwork on it, or Sys.Audit and Sys.Modify on C(/).
    #[default]
    Node,
    /// The controller, which passes on what it gets. The node needs no way to the source.
    Controller,
}

/// An asset of a GitHub release.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct GithubRelease {
    /// Repository, as V(OWNER/NAME).
    pub repo: String,

    /// Tag of the release, or V(latest).
    #[serde(default = "default_tag")]
    pub tag: String,

    /// Pattern with C(*) and C(?) that the name of one asset fits.
    #[serde(default = "default_asset")]
    pub asset: String,

    /// Token for private repositories and higher rate limits. It is sent to O(github_release.api_url) only.
    #[schemars(extend("x-ansible" = {"env": ["GITHUB_TOKEN"]}))]
    pub token: Option<Secret>,

    /// Address of the API, for GitHub Enterprise (C(https://HOST/api/v3)) and mirrors.
    #[serde(default = "default_api_url")]
    pub api_url: String,
}

fn default_tag() -> String {
    "latest".into()
}

fn default_asset() -> String {
    "*.iso".into()
}

fn default_api_url() -> String {
    "https://api.github.com".into()
}

/// What is said about the content.
#[derive(Debug, PartialEq, Eq)]
pub enum Checksum {
    /// 64 lower-case hex digits.
    Sha256(String),
    /// Address of a file of checksums.
    Sums(String),
}

fn default_timeout() -> u64 {
    3600
}

impl Options {
    /// The name of the ISO on the storage, made of the one given or the `source`'s.
    ///
    /// # Errors
    /// Kind `invalid_option` when there is none or PVE would not take it.
    pub fn iso_name(&self, source: &str) -> Result<String, Failure> {
        let given = self.name.as_deref().unwrap_or(source);
        let name = normalise_upload_name(given);
        if !is_iso_name(&name) {
            return Err(Failure::new(
                "invalid_option",
                format!("'{given}' is no name for an ISO: it must end in .iso or .img"),
            )
            .hint("set name"));
        }
        Ok(name)
    }

    /// The name of a source that is known without asking anybody.
    pub fn local_source_name(&self) -> String {
        match (&self.src, &self.url) {
            (Some(src), _) => src
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            (None, Some(url)) => url_file_name(url),
            (None, None) => String::new(),
        }
    }

    /// The checksum that was asked for.
    ///
    /// # Errors
    /// Kind `invalid_option` when it has neither form.
    pub fn checksum(&self) -> Result<Option<Checksum>, Failure> {
        let Some(text) = &self.checksum else {
            return Ok(None);
        };
        match text.trim().strip_prefix("sha256:") {
            Some(digits) if crate::sums::is_sha256(digits) => {
                Ok(Some(Checksum::Sha256(digits.to_ascii_lowercase())))
            }
            Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
                Ok(Some(Checksum::Sums(url.to_string())))
            }
            _ => Err(Failure::new(
                "invalid_option",
                format!(
                    "checksum '{text}' is neither sha256: and 64 hex digits nor sha256: and an address"
                ),
            )),
        }
    }
}

/// The last part of a URL's path.
pub fn url_file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    path.split_once('/')
        .and_then(|(_, path)| path.rsplit('/').next())
        .map(|name| {
            percent_encoding::percent_decode_str(name)
                .decode_utf8_lossy()
                .into_owned()
        })
        .unwrap_or_default()
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
        let name = |more| {
            let options = options(more);
            options.iso_name(&options.local_source_name())
        };
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
        let sha256 = |text: &str| options(json!({"checksum": text})).checksum();
        assert_eq!(
            sha256(&format!("sha256:{}", "AB".repeat(32)))
                .unwrap()
                .unwrap(),
            Checksum::Sha256("ab".repeat(32))
        );
        assert_eq!(
            sha256("sha256:https://x.example/SHA256SUMS")
                .unwrap()
                .unwrap(),
            Checksum::Sums("https://x.example/SHA256SUMS".into())
        );
        assert!(sha256("sha256:ftp://x.example/SHA256SUMS").is_err());
        assert!(sha256("sha256:abc").is_err());
        assert!(sha256(&"ab".repeat(32)).is_err());
        assert_eq!(options(json!({})).checksum().unwrap(), None);
    }
}
