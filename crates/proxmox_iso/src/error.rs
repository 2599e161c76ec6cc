//! Why the module refuses or gives up a task. Failures of the API come from `pve_module`.

use std::io;
use std::path::{Path, PathBuf};

use ansible_module::{Failure, FailureKind};
use pve_client::{Content, Volid};
use reqwest::StatusCode;

use crate::compression::Compression;
use crate::wanted::Wanted;

/// What `content_check: false` is for.
const WITHOUT_CHECK: &str = "content_check: false takes the bytes as they are";
const NOTHING_REPLACED: &str = "nothing was replaced; fetch or build the image again, or set checksum: ALGORITHM:HEX to that of the \
                                image that you want";

/// A failure of the module's own. `shown` is an address or a path without secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The options.
    #[error("invalid value of {path}: {problem}")]
    InvalidValue { path: String, problem: String },
    #[error("one of src, url, github_release is required")]
    SourceRequired,
    #[error("there is nothing to download")]
    NothingToDownload,
    #[error("name: must end in {} and have at most 255 characters (got '{name}')", endings(*content))]
    InvalidName { name: String, content: Content },
    #[error("name: the source does not give the image a name")]
    UnnamedSource(Content),
    #[error("name: the source's own has {length} characters, and Proxmox VE takes 255")]
    LongSourceName { length: usize, content: Content },
    #[error("name: the source is called '{name}', which does not end in {}", endings(*content))]
    SourceNameSuffix {
        name: String,
        is_archive: bool,
        content: Content,
    },
    /// It has no scheme, such as `example.org/x.iso`.
    #[error("{option}: '{shown}' is not an address")]
    NoScheme { option: String, shown: String },
    #[error("{option}: '{shown}' is not an address ({problem})")]
    InvalidAddress {
        option: String,
        shown: String,
        problem: String,
    },
    #[error("{option}: '{shown}' is not an http or https address")]
    NotHttp { option: String, shown: String },
    #[error("'{0}' is not an http or https address")]
    LinkNotHttp(String),
    #[error("checksum: {algorithm}: needs {digits} hex digits (got {got})")]
    ChecksumLength {
        algorithm: &'static str,
        digits: usize,
        got: usize,
        /// The algorithm whose checksums have that many digits.
        fitting: Option<&'static str>,
    },
    #[error(
        "checksum: must be sha256: and 64 hex digits, or sha256: and an address (got '{shown}')"
    )]
    InvalidChecksum { shown: String, hint: String },
    #[error("github_release.repo: expected OWNER/NAME (got '{0}')")]
    InvalidRepo(String),
    #[error(
        "github_release.token: is not sent to {api} in clear text; use https in github_release.api_url"
    )]
    TokenInClearText { api: String },
    #[error("github_release.token: holds a control character")]
    InvalidToken,

    // Files.
    #[error("src: cannot read {}: {error}", path.display())]
    SourceUnreadable { path: PathBuf, error: io::Error },
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("cannot write {}: {error}", path.display())]
    Unwritable { path: PathBuf, error: io::Error },
    #[error("cannot keep records: {0}")]
    Records(io::Error),

    // Downloads by the controller.
    #[error("HTTP client: {0}")]
    HttpClient(reqwest::Error),
    #[error("cannot read {shown}: {reason}")]
    Interrupted { shown: String, reason: String },
    #[error("{shown} answered {status}")]
    HttpStatus {
        shown: String,
        status: StatusCode,
        is_rate_limited: bool,
    },
    #[error("{0} is not a text")]
    NotText(String),
    #[error("{0} is not a short text")]
    LongText(String),
    #[error("{shown} gave {size} bytes instead of {expected}")]
    DownloadSize {
        shown: String,
        size: u64,
        expected: u64,
    },
    #[error("{shown} has {size} bytes instead of the release's {expected}")]
    NotTheReleasesSize {
        shown: String,
        size: u64,
        expected: u64,
    },
    #[error("{0} does not tell its size (Content-Length), without which nothing can be uploaded")]
    UnknownSize(String),

    // GitHub's releases.
    #[error("{shown} does not answer as GitHub's API does: {problem}")]
    NotGithub {
        shown: String,
        problem: serde_json::Error,
    },
    #[error("{release} ({tag}) has no asset like {pattern}; it has: {}", assets.join(", "))]
    NoAsset {
        release: String,
        tag: String,
        pattern: String,
        assets: Vec<String>,
    },
    #[error("{release} ({tag}) has several assets like {pattern}: {}", assets.join(", "))]
    AmbiguousAsset {
        release: String,
        tag: String,
        pattern: String,
        assets: Vec<String>,
    },

    // What the source holds.
    #[error("{shown} is not {wanted}: it is {found}")]
    NotAnImage {
        shown: String,
        wanted: Wanted,
        found: String,
        hint: Option<&'static str>,
    },
    #[error("{shown} is compressed ({}), and what is in it is not {wanted}: it is {found}", compression.name())]
    CompressedNotAnImage {
        shown: String,
        compression: Compression,
        wanted: Wanted,
        found: String,
        hint: Option<&'static str>,
    },
    #[error("{shown} is cut short: its volume descriptor says that it has {lacking} bytes more")]
    CutShort { shown: String, lacking: u64 },
    #[error("{shown} cannot be unpacked ({}): {error}", compression.name())]
    CannotUnpack {
        shown: String,
        compression: Compression,
        error: io::Error,
    },
    #[error("{shown} has more than {most} bytes once unpacked, for which the storage has no room")]
    NoSpaceUnpacked { shown: String, most: u64 },
    #[error("{shown} is compressed ({}), which a download by the node does not unpack", compression.name())]
    CompressedForNode {
        shown: String,
        compression: Compression,
    },

    // Checksums.
    #[error("checksum: {shown} cannot be used: {problem}")]
    NoChecksum { shown: String, problem: String },
    #[error(
        "checksum mismatch: the release says that {name} has {published}, the task says {digest}"
    )]
    NotTheReleasesChecksum {
        name: String,
        published: String,
        digest: String,
    },
    #[error("checksum mismatch: {shown} is not what its checksum says: expected {expected}{}", got_digest(got.as_deref()))]
    ChecksumMismatch {
        shown: String,
        expected: String,
        got: Option<String>,
    },
    /// Found by PVE. `finding` is its words.
    #[error("checksum mismatch: {object} is not what its checksum says: {finding}")]
    ChecksumMismatchOnNode { object: String, finding: String },

    // The node, its storage and what is there.
    #[error("node: {node} does not exist (available: {})", available.join(", "))]
    NodeNotFound {
        node: String,
        available: Vec<String>,
    },
    #[error("storage {storage} {problem}")]
    Storage {
        storage: String,
        node: String,
        problem: StorageProblem,
        content: Content,
        /// The storages of the node that can hold such files.
        usable: Vec<String>,
    },
    #[error("storage {} has room for {usable} bytes, {volid} needs {size}", volid.storage)]
    NoSpace {
        volid: Volid,
        usable: u64,
        size: u64,
    },
    #[error("{volid} exists already: {difference}")]
    Exists { volid: String, difference: String },
    #[error("{volid} is used by {}", users.join(", "))]
    InUse { volid: Volid, users: Vec<String> },
    #[error("{volid} is used by {}", users.join(", "))]
    InUseByRunningVm { volid: Volid, users: Vec<String> },

    // The transfer.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("download-url answered {0} instead of a task")]
    NoTask(serde_json::Value),
    #[error("{volid} is not on the storage after the transfer")]
    NotArrived { volid: Volid },
    #[error("{volid} has {size} bytes instead of {expected} after the transfer")]
    ArrivedSize {
        volid: Volid,
        size: u64,
        expected: u64,
    },
}

/// Why a storage cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageProblem {
    #[error("does not exist on node {node}, or {caller} may not see it")]
    NotFound { node: String, caller: String },
    #[error("does not hold {} (its content types: {has})", files(*content))]
    Content { content: Content, has: String },
    #[error("is disabled")]
    Disabled,
    #[error("is not available on node {node} now")]
    Inactive { node: String },
}

impl Error {
    pub fn unreadable(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unreadable { path, error }
    }

    pub fn unwritable(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unwritable { path, error }
    }

    pub fn interrupted(shown: &str, reason: impl ToString) -> Self {
        Self::Interrupted {
            shown: shown.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub fn exists(volid: &str, difference: impl Into<String>) -> Self {
        Self::Exists {
            volid: volid.to_owned(),
            difference: difference.into(),
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::InvalidValue { .. }
            | Self::SourceRequired
            | Self::NothingToDownload
            | Self::InvalidName { .. }
            | Self::UnnamedSource(_)
            | Self::LongSourceName { .. }
            | Self::SourceNameSuffix { .. }
            | Self::NoScheme { .. }
            | Self::InvalidAddress { .. }
            | Self::NotHttp { .. }
            | Self::LinkNotHttp(_)
            | Self::ChecksumLength { .. }
            | Self::InvalidChecksum { .. }
            | Self::InvalidRepo(_)
            | Self::TokenInClearText { .. }
            | Self::InvalidToken => FailureKind::InvalidOption,
            Self::SourceUnreadable { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Records(_) => FailureKind::File,
            Self::HttpClient(_)
            | Self::Interrupted { .. }
            | Self::HttpStatus { .. }
            | Self::NotText(_)
            | Self::LongText(_)
            | Self::DownloadSize { .. }
            | Self::NotTheReleasesSize { .. }
            | Self::UnknownSize(_) => FailureKind::Download,
            Self::NotGithub { .. } | Self::NoTask(_) => FailureKind::UnexpectedAnswer,
            Self::NoAsset { .. } | Self::NodeNotFound { .. } => FailureKind::NotFound,
            Self::AmbiguousAsset { .. } => FailureKind::Ambiguous,
            Self::NotAnImage { .. }
            | Self::CompressedNotAnImage { .. }
            | Self::CutShort { .. }
            | Self::CannotUnpack { .. }
            | Self::CompressedForNode { .. } => FailureKind::NotAnImage,
            Self::NoSpaceUnpacked { .. } | Self::NoSpace { .. } => FailureKind::NoSpace,
            Self::NoChecksum { .. } => FailureKind::NoChecksum,
            Self::NotTheReleasesChecksum { .. }
            | Self::ChecksumMismatch { .. }
            | Self::ChecksumMismatchOnNode { .. } => FailureKind::ChecksumMismatch,
            Self::Storage { problem, .. } => match problem {
                StorageProblem::NotFound { .. } => FailureKind::NotFound,
                _ => FailureKind::StorageUnusable,
            },
            Self::Exists { .. } => FailureKind::Exists,
            Self::InUse { .. } | Self::InUseByRunningVm { .. } => FailureKind::InUse,
            Self::Thread(_) => FailureKind::Internal,
            Self::NotArrived { .. } | Self::ArrivedSize { .. } => FailureKind::Transfer,
        }
    }

    fn object(&self) -> Option<String> {
        match self {
            Self::InvalidValue { path, .. } => Some(path.clone()),
            Self::SourceUnreadable { path, .. }
            | Self::Unreadable { path, .. }
            | Self::Unwritable { path, .. } => Some(path.display().to_string()),
            Self::Interrupted { shown, .. }
            | Self::HttpStatus { shown, .. }
            | Self::NotText(shown)
            | Self::NotTheReleasesSize { shown, .. }
            | Self::UnknownSize(shown)
            | Self::NotGithub { shown, .. }
            | Self::NotAnImage { shown, .. }
            | Self::CompressedNotAnImage { shown, .. }
            | Self::CutShort { shown, .. }
            | Self::CannotUnpack { shown, .. }
            | Self::NoSpaceUnpacked { shown, .. }
            | Self::CompressedForNode { shown, .. }
            | Self::NoChecksum { shown, .. }
            | Self::ChecksumMismatch { shown, .. }
            | Self::ChecksumMismatchOnNode { object: shown, .. } => Some(shown.clone()),
            Self::NotTheReleasesChecksum { name, .. } => Some(name.clone()),
            Self::NodeNotFound { node, .. } => Some(node.clone()),
            Self::Storage { storage, .. } => Some(storage.clone()),
            Self::NoSpace { volid, .. } => Some(volid.storage.clone()),
            Self::Exists { volid, .. } => Some(volid.clone()),
            Self::InUse { volid, .. }
            | Self::InUseByRunningVm { volid, .. }
            | Self::NotArrived { volid }
            | Self::ArrivedSize { volid, .. } => Some(volid.to_string()),
            _ => None,
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnnamedSource(content) | Self::LongSourceName { content, .. } => {
                return Some(format!("set name: NAME.{}", content.endings()[0]));
            }
            Self::SourceNameSuffix {
                is_archive: true, ..
            } => "unpack it first, and give the image that is in it",
            Self::SourceNameSuffix {
                content: Content::Iso,
                ..
            } => "set name: NAME.iso, if it is an ISO image",
            Self::SourceNameSuffix { .. } => {
                "set name: NAME.qcow2 or NAME.raw, as the format of the disk image is"
            }
            Self::NoScheme { .. } => "begin it with https://; for a local file set src: FILE",
            Self::NotHttp { .. } => "fetch it otherwise, and set src: FILE",
            Self::ChecksumLength {
                fitting: Some(other),
                ..
            } => return Some(format!("write {other}: if it is such a checksum")),
            Self::InvalidChecksum { hint, .. } => hint,
            Self::HttpStatus {
                is_rate_limited: true,
                ..
            } => "its rate limit is used up: set github_release.token, or wait",
            Self::UnknownSize(_) => {
                "set cache_dir: DIRECTORY, so that it is downloaded first, or download_by: node"
            }
            Self::AmbiguousAsset { .. } => "make github_release.asset fit one of them",
            Self::NotAnImage { hint, .. } | Self::CompressedNotAnImage { hint, .. } => {
                return Some(match hint {
                    Some(hint) => format!("{hint}; {WITHOUT_CHECK}"),
                    None => WITHOUT_CHECK.to_owned(),
                });
            }
            Self::CutShort { .. } => {
                return Some(format!("fetch or build it again; {WITHOUT_CHECK}"));
            }
            Self::CannotUnpack { .. } => "fetch or build it again",
            Self::CompressedForNode { .. } => {
                "set download_by: controller, which unpacks it on the way, or give the address of the image itself"
            }
            Self::NoChecksum { .. } => {
                "give a file that names the image, as sha256sum or sha256 write it, or the checksum itself"
            }
            Self::NotTheReleasesChecksum { .. } => {
                "one of the two was tampered with, or is of another release"
            }
            Self::ChecksumMismatch { .. } | Self::ChecksumMismatchOnNode { .. } => NOTHING_REPLACED,
            Self::Storage {
                node,
                usable,
                content,
                ..
            } => {
                let usable = match usable.is_empty() {
                    true => "none".to_owned(),
                    false => usable.join(", "),
                };
                let files = files(*content);
                return Some(format!(
                    "storages of {node} that can hold {files}: {usable}"
                ));
            }
            Self::NoSpace { .. } => {
                "delete old ISOs (proxmox_iso with state: absent takes a pattern as name), or set storage: OTHER"
            }
            Self::Exists { volid, .. } if volid.contains(":import/") => {
                "set force: true to replace it, name: OTHER.qcow2 to keep both, or checksum: ALGORITHM:HEX to have its content compared"
            }
            Self::Exists { .. } => {
                "set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared"
            }
            Self::InUse { .. } => {
                "force: true deletes it nevertheless; then the VM cannot start until its drive is changed"
            }
            Self::InUseByRunningVm { .. } => {
                "it is not replaced under a running VM; give the new one another name, or eject it first"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self {
            object: error.object(),
            hint: error.hint(),
            ..Self::new(error.kind(), error.to_string())
        };
        match error {
            Error::HttpStatus { status, .. } => failure.status(status.as_u16()),
            _ => failure,
        }
    }
}

/// How the names of such files end.
fn endings(content: Content) -> String {
    let (last, others) = match content.endings() {
        [others @ .., last] => (last, others.join(", .")),
        [] => return String::new(),
    };
    format!(".{others} or .{last}")
}

/// Such files, in words.
fn files(content: Content) -> &'static str {
    match content {
        Content::Iso => "ISOs",
        Content::Import => "disk images (content type import)",
    }
}

fn got_digest(got: Option<&str>) -> String {
    got.map(|got| format!(", got {got}")).unwrap_or_default()
}
