//! What a task can ask for.

use std::path::PathBuf;

use ansible_module::{Failure, Secret};
use pve_client::Volid;
use pve_client::volid::normalise_upload_name;
use pve_module::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::compression::Compression;
use crate::error::Error;

/// Options of the module.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Options {
    /// Where the API is and who asks.
    #[serde(flatten)]
    pub connection: Connection,

    /// Node through which the storage is reached.
    pub node: String,

    /// Storage with the content type of O(content).
    pub storage: String,

    /// What the image is for.
    #[serde(default)]
    pub content: Content,

    /// Whether the image should be there.
    #[serde(default)]
    pub state: State,

    /// Name of the image on the storage. It ends in C(.iso) or C(.img), with O(content=import) in C(.qcow2), C(.raw) or C(.vmdk). Characters other than
    /// letters, digits, C(.), C(_) and C(-) become C(_), as Proxmox VE does it. Without it the
    /// name of the source is used. With O(state=absent) it may be a pattern with C(*) and C(?): all
    /// ISOs of such names are deleted, except those that a VM uses.
    pub name: Option<String>,

    /// Local file to upload. It is streamed: memory use does not depend on its size. One that is
    /// compressed (gzip, bzip2, xz, zstd) is read twice and unpacked as it is sent.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub src: Option<PathBuf>,

    /// Address (http or https) of the ISO. User and password in it are never sent to another host
    /// that it redirects to; they, and tokens and signatures among its parameters, are masked in all
    /// output. The name of the ISO is taken from its path, else from its parameters, the server's
    /// Content-Disposition, or the address that it redirects to. One that is compressed is unpacked with
    /// O(download_by=controller) only.
    pub url: Option<String>,

    /// Asset of a GitHub release. Its digest, if the release has one, is the O(checksum).
    pub github_release: Option<GithubRelease>,

    /// Who downloads a O(url) or O(github_release).
    #[serde(default)]
    pub download_by: DownloadBy,

    /// What the content must be: V(sha256:HEX), V(sha384:HEX), V(sha512:HEX), the same as Nix writes it
    /// (V(sha256-BASE64) or V(sha256:BASE32)), or V(sha256:URL) of a checksum file. If the image is compressed, it may be
    /// the checksum of the file as it is published or of the image in it. Proxmox VE compares what arrived
    /// with it and keeps nothing else. In a file of checksums the names of the source are looked up: its
    /// own, without the ending of the compression, and those that its server gives it in a redirect or in
    /// Content-Disposition; a file with one checksum is of the source whatever name it says. All forms are read that C(sha256sum), BSD's C(sha256),
    /// C(openssl dgst) and C(gpg --print-md) write, with SHA-256 preferred, then SHA-512; signatures around them
    /// are not verified. A checksum file may also be a Markdown page, JSON (such as a release of GitHub's API) or YAML, where the
    /// checksum is beside the name. One that does not tell which checksum is of the image is refused with what was found. Without O(checksum), O(src) is read twice, once to hash it, so that a damaged
    /// transfer is noticed in any case.
    pub checksum: Option<String>,

    /// Whether the content must be an ISO 9660 or UDF image; with O(content=import), the image of a disk in the format that its name
    /// ends in, without a backing file. It is looked at before anything is written: an image of another kind, an
    /// HTML page, an archive, an ISO image that was cut short are refused, and what is compressed is unpacked.
    /// For a download by the node the controller looks at the first bytes itself, if it reaches the address. V(false) takes the bytes as they are.
    #[serde(default = "default_true")]
    pub content_check: bool,

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

/// What an image is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// An ISO image for CD-ROM drives.
    #[default]
    Iso,
    /// The image of a disk, which C(import_from) of M(proxmox_nixos_vm) copies into the disk of a new VM.
    Import,
}

impl From<Content> for pve_client::Content {
    fn from(content: Content) -> Self {
        match content {
            Content::Iso => Self::Iso,
            Content::Import => Self::Import,
        }
    }
}

/// Whether the image should be there.
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

fn default_true() -> bool {
    true
}

fn default_timeout() -> u64 {
    3600
}

impl Options {
    /// Options as another crate has them, as JSON. A list may be a single text.
    ///
    /// # Errors
    /// Kind `invalid_option` with the option's name.
    pub fn from_json(mut value: serde_json::Value) -> Result<Self, Failure> {
        for list in ["api_host", "tls_fingerprint"] {
            if let Some(one) = value.get_mut(list).filter(|one| one.is_string()) {
                *one = serde_json::Value::Array(vec![one.take()]);
            }
        }
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let problem = error.into_inner().to_string();
            Error::InvalidValue { path, problem }.into()
        })
    }

    /// The volume `name` on the storage.
    pub fn volid(&self, name: &str) -> Volid {
        Volid::file(self.content.into(), &self.storage, name)
    }

    /// The name of the image on the storage, made of the one given or the `source`'s.
    ///
    /// # Errors
    /// When there is none or PVE would not take it.
    pub fn volume_name(&self, source: &str) -> Result<String, Error> {
        let unpacked = match self.content_check {
            true => Compression::of_name(source).0,
            false => source,
        };
        let given = self.name.as_deref().unwrap_or(unpacked);
        let name = normalise_upload_name(given);
        let content = pve_client::Content::from(self.content);
        if content.takes(&name) {
            return Ok(name);
        }
        Err(match (&self.name, source.is_empty()) {
            (Some(_), _) => Error::InvalidName {
                name: given.to_owned(),
                content,
            },
            (None, true) => Error::UnnamedSource(content),
            (None, false) if given.len() > 255 => Error::LongSourceName {
                length: given.len(),
                content,
            },
            (None, false) => Error::SourceNameSuffix {
                name: source.to_owned(),
                is_archive: archive(source),
                content,
            },
        })
    }

    /// The name of a source that is known without asking anybody.
    pub fn local_source_name(&self) -> String {
        match (&self.src, &self.url) {
            (Some(src), _) => src
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            (None, Some(url)) => Address::parse(url, "url")
                .map(|address| address.image_name().unwrap_or_else(|| address.last_part()))
                .unwrap_or_default(),
            (None, None) => String::new(),
        }
    }
}

/// Whether it is the name of an archive, or of something compressed in a way that is not unpacked.
fn archive(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let (plain, compression) = Compression::of_name(&lower);
    let endings = [
        ".zip", ".7z", ".rar", ".tar", ".tgz", ".txz", ".tbz", ".lz4", ".lzo", ".lzma", ".lz", ".z",
    ];
    compression.is_some() || endings.iter().any(|ending| plain.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ansible_module::FailureKind;
    use serde_json::{Value, json};

    fn options(more: Value) -> Options {
        let mut all = json!({"api_host": ["pve1"], "node": "pve", "storage": "local"});
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Options::from_json(all).unwrap()
    }

    #[test]
    fn the_name_comes_from_the_source() {
        let name = |more| {
            let options = options(more);
            options.volume_name(&options.local_source_name())
        };
        for (more, expected) in [
            (json!({"src": "/a/b c.iso"}), "b_c.iso"),
            (
                json!({"url": "https://x.example/a/nixos.iso?token=1"}),
                "nixos.iso",
            ),
            (json!({"src": "/a/b.iso", "name": "x.img"}), "x.img"),
            (json!({"src": "/a/tool.iso.bz2"}), "tool.iso"),
            (json!({"src": "/a/tool.IMG.XZ"}), "tool.IMG"),
            (json!({"src": "/a/tool.bz2", "name": "x.iso"}), "x.iso"),
        ] {
            assert_eq!(name(more).unwrap(), expected);
        }
        for (more, hint) in [
            (json!({"url": "https://x.example"}), "set name: "),
            (json!({"src": "/a/b.qcow2"}), "if it is an ISO image"),
            (json!({"src": "/a/b.iso.zip"}), "unpack it first"),
            (json!({"src": "/a/b.tar.xz"}), "unpack it first"),
            (
                json!({"src": format!("/a/{}.iso", "n".repeat(260))}),
                "set name: NAME.iso",
            ),
            (
                json!({"src": "/a/b.iso.xz", "content_check": false}),
                "unpack it first",
            ),
        ] {
            let refused = Failure::from(name(more).unwrap_err());
            assert_eq!(refused.kind, FailureKind::InvalidOption);
            assert!(refused.hint.unwrap().contains(hint));
        }
        let refused = name(json!({"src": "/a/b.iso", "name": "b.qcow2"})).unwrap_err();
        assert!(refused.to_string().contains("got 'b.qcow2'"), "{refused}");
    }

    #[test]
    fn options_of_another_crate_are_refused_by_name() {
        let refused = Options::from_json(json!({"api_host": ["pve1"], "node": 1})).unwrap_err();
        assert_eq!(refused.kind, FailureKind::InvalidOption);
    }
}
