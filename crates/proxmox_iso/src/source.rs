//! Where the ISO comes from: a file, an address, or an asset of a GitHub release.

use std::path::PathBuf;
use std::time::Duration;

use ansible_module::{Failure, FailureKind};
use deadline::Deadline;
use pve_module::Context;
use serde_json::{Map, Value};

use crate::address::{Address, is_image_name, secrets};
use crate::checksum::{self, Algorithm, ChecksumOption, Digest};
use crate::checksum_file::{self, Wanted};
use crate::compression::Compression;
use crate::error::Error;
use crate::fetch::{Facts, Fetch, With};
use crate::options::{DownloadBy, Options};
use crate::release::{self, ReleaseAsset};
use crate::state;

/// The media type for which GitHub's API gives an asset itself rather than its description.
const BYTES: &str = "application/octet-stream";
/// How long the controller tries to reach an address that the node is to download from.
pub const GLANCE: Duration = Duration::from_secs(8);

/// A source, with what is known of it before any of its bytes are read.
pub struct Source {
    /// Its own file name.
    pub name: String,
    /// Where its bytes are.
    pub origin: Origin,
    /// The size of the file, where it is known.
    pub size: Option<u64>,
    /// Its checksum, where it was given or published.
    pub checksum: Option<Digest>,
    /// The other file that the published checksum names.
    pub checksum_of: Option<String>,
}

/// Where the bytes are.
pub enum Origin {
    /// In a local file.
    File(PathBuf),
    /// On a server.
    Url {
        /// Where anybody may fetch it.
        public: Address,
        /// Where the API gives it to the holder of the token.
        private: Option<(String, String)>,
    },
}

/// The secrets in the addresses among options, as they were given.
pub fn secrets_in_options(params: &Map<String, Value>) -> Vec<String> {
    let release = params.get("github_release");
    let addresses = [
        params.get("url"),
        params.get("checksum"),
        release.and_then(|release| release.get("api_url")),
    ];
    let texts = addresses.into_iter().flatten().filter_map(Value::as_str);
    texts.flat_map(secrets_in_address).collect()
}

/// The secrets in an address: as they were given, and as requests have them, where they may be encoded otherwise.
pub fn secrets_in_address(text: &str) -> Vec<String> {
    let mut found = secrets(text);
    if let Ok(address) = Address::parse(text.trim(), "url") {
        found.extend(secrets(address.as_str()));
    }
    found
}

impl From<ReleaseAsset> for Source {
    fn from(asset: ReleaseAsset) -> Self {
        Self {
            name: asset.name,
            origin: Origin::Url {
                public: asset.public,
                private: asset.private,
            },
            size: Some(asset.size),
            checksum: asset.checksum,
            checksum_of: None,
        }
    }
}

impl Source {
    /// The source that the options name; `None` when they name none. The node
    /// is asked for the name of what only it can reach.
    ///
    /// # Errors
    /// When a file cannot be read, a release, an asset or a checksum not be found.
    pub async fn resolve(
        context: &Context<'_>,
        options: &Options,
    ) -> Result<Option<Self>, Failure> {
        let Context { deadline, task, .. } = *context;
        let option = options
            .checksum
            .as_deref()
            .map(checksum::parse_option)
            .transpose()?;
        let mut source = match (&options.src, &options.url, &options.github_release) {
            (Some(src), ..) => Self::file(src.clone())?,
            (None, Some(url), _) => Self::address(Address::parse(url, "url")?),
            (None, None, Some(wanted)) => release::find(wanted, deadline).await?.into(),
            (None, None, None) => return Ok(None),
        };
        let mut asked = None;
        if options.name.is_none() && !is_image_name(&source.name) && source.url().is_some() {
            let facts = source.ask(context, options).await.unwrap_or_default();
            if let Some(name) = facts.names().find(|name| is_image_name(name)) {
                source.name.clone_from(name);
            }
            asked = Some(facts);
        }
        options.volume_name(&source.name)?;
        source.refuse_packed_for_node(options)?;
        let clear_text = source.url().filter(|url| url.is_clear_text());
        match &option {
            None if source.checksum.is_none() => {
                if let Some(url) = clear_text {
                    task.warn(format!(
                        "url: {} is not encrypted, and no checksum is given: whoever is on its way can replace the image; set checksum: ALGORITHM:HEX, or use https",
                        url.shown()
                    ));
                }
                return Ok(Some(source));
            }
            None => return Ok(Some(source)),
            Some(ChecksumOption::Published(_, sums)) => {
                let sums = Address::parse(sums, "checksum")?;
                if clear_text.is_some() && sums.is_clear_text() {
                    task.warn(format!(
                        "checksum: {} is not encrypted, as the image is not: whoever is on their way can replace both; use https, or give the checksum itself",
                        sums.shown()
                    ));
                }
            }
            Some(ChecksumOption::Digest(_)) => {}
        }
        let (digest, of) = match option {
            Some(ChecksumOption::Published(prefer, sums)) => {
                let sums = Address::parse(&sums, "checksum")?;
                source.published(&sums, prefer, asked, deadline).await?
            }
            Some(ChecksumOption::Digest(digest)) => (digest, None),
            None => return Ok(Some(source)),
        };
        if let Some(published) = &source.checksum
            && published.algorithm == digest.algorithm
            && *published != digest
        {
            let error = Error::NotTheReleasesChecksum {
                published: published.to_string(),
                name: source.name,
                digest: digest.to_string(),
            };
            return Err(error.into());
        }
        source.checksum = Some(digest);
        source.checksum_of = of;
        Ok(Some(source))
    }

    fn file(path: PathBuf) -> Result<Self, Error> {
        let meta = std::fs::metadata(&path).and_then(|meta| match meta.is_file() {
            true => Ok(meta),
            false => Err(std::io::Error::other("it is not a regular file")),
        });
        let meta = match meta {
            Ok(meta) => meta,
            Err(error) => return Err(Error::SourceUnreadable { path, error }),
        };
        Ok(Self {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            origin: Origin::File(path),
            size: Some(meta.len()),
            checksum: None,
            checksum_of: None,
        })
    }

    fn address(address: Address) -> Self {
        Self {
            name: address.image_name().unwrap_or_else(|| address.last_part()),
            origin: Origin::Url {
                public: address,
                private: None,
            },
            size: None,
            checksum: None,
            checksum_of: None,
        }
    }

    /// The address from which a node can download it.
    pub fn url(&self) -> Option<&Address> {
        match &self.origin {
            Origin::File(_) => None,
            Origin::Url { public, .. } => Some(public),
        }
    }

    /// The address from which the controller downloads it, and what goes along.
    pub fn request(&self) -> Option<(&str, With<'_>)> {
        match &self.origin {
            Origin::File(_) => None,
            Origin::Url {
                private: Some((url, token)),
                ..
            } => Some((
                url,
                With {
                    token: Some(token),
                    accept: Some(BYTES),
                },
            )),
            Origin::Url { public, .. } => Some((public.as_str(), With::default())),
        }
    }

    /// What it is called in messages.
    pub fn shown(&self) -> String {
        match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Url { public, .. } => public.shown(),
        }
    }

    /// How its name says that it is compressed.
    pub fn compression(&self) -> Option<Compression> {
        Compression::of_name(&self.name).1
    }

    /// What its server says of it, to the controller or, if the node downloads it and the controller
    /// does not reach it, to the node.
    ///
    /// # Errors
    /// Why nobody gets an answer.
    pub async fn ask(&self, context: &Context<'_>, options: &Options) -> Result<Facts, Failure> {
        let deadline = context.deadline;
        let Some((url, with)) = self.request() else {
            return Ok(Facts::default());
        };
        match (options.download_by, self.url()) {
            (DownloadBy::Node, Some(public)) => {
                let limit = deadline.shorter(GLANCE);
                let own = Fetch::new()?.download(url, with, &limit).await;
                let node = state::url_facts(context, &options.node, public).await;
                match (own, node) {
                    (Ok(own), Ok(node)) => Ok(Facts {
                        size: node.size.or(own.facts.size),
                        media_type: node.media_type.or(own.facts.media_type),
                        ..own.facts
                    }),
                    (Ok(own), Err(_)) => Ok(own.facts),
                    (Err(_), Ok(node)) => Ok(node),
                    (Err(_), Err(failed)) => Err(failed),
                }
            }
            _ => Ok(Fetch::new()?.download(url, with, deadline).await?.facts),
        }
    }

    /// PVE can unpack what it downloads, but compares the packed file only, and not what is there.
    fn refuse_packed_for_node(&self, options: &Options) -> Result<(), Error> {
        match self.compression() {
            Some(compression)
                if options.content_check
                    && options.download_by == DownloadBy::Node
                    && self.url().is_some() =>
            {
                Err(compressed_for_node(&self.shown(), compression))
            }
            _ => Ok(()),
        }
    }

    /// Its checksum in a file of checksums, and which other file that names.
    async fn published(
        &self,
        sums: &Address,
        prefer: Algorithm,
        asked: Option<Facts>,
        deadline: &Deadline,
    ) -> Result<(Digest, Option<String>), Failure> {
        let fetch = Fetch::new()?;
        let text = fetch
            .text(sums.as_str(), With::default(), deadline)
            .await
            .map_err(|failed| Failure {
                msg: format!("checksum: {}", failed.msg),
                ..failed
            })?;
        let path = self.url().map(Address::path).unwrap_or_default();
        let mut names = Vec::new();
        let mut add = |name: &str| {
            let (plain, _) = Compression::of_name(name);
            for name in [name, plain] {
                if !name.is_empty() && !names.iter().any(|known| known == name) {
                    names.push(name.to_string());
                }
            }
        };
        add(&self.name);
        asked
            .iter()
            .flat_map(Facts::names)
            .for_each(|name| add(name));
        // `nixos-1.iso.sha256`, to which `latest.iso.sha256` was redirected.
        let file = text.file.as_deref().and_then(|file| file.rsplit_once('.'));
        if let Some((name, _)) = file.filter(|(name, _)| is_image_name(name)) {
            add(name);
        }
        let of = [Some(sums.last_part()), text.file.clone()];
        let of = of.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let found = |names: &[String]| {
            checksum_file::find(
                &text.text,
                Wanted {
                    names,
                    path: &path,
                    prefer,
                    of: &of,
                },
            )
        };
        let first = found(&names);
        let found = match (first, self.request()) {
            (Ok(found), _) => Ok(found),
            (Err(why), Some((url, with))) if asked.is_none() => {
                // It may be listed under the name that its server redirects to.
                let facts = fetch.download(url, with, &deadline.shorter(GLANCE)).await;
                let facts = facts.map(|download| download.facts).unwrap_or_default();
                let mut add = |name: &str| names.push(name.to_string());
                facts.names().for_each(|name| add(name));
                found(&names).map_err(|_| why)
            }
            (Err(why), _) => Err(why),
        };
        let shown = sums.shown();
        match found {
            Ok(found) => Ok((found.digest, found.only_of)),
            Err(problem) => Err(Error::NoChecksum { shown, problem }.into()),
        }
    }
}

/// The refusal of a compressed image that a node is to download.
pub fn compressed_for_node(shown: &str, compression: Compression) -> Error {
    let shown = shown.to_owned();
    Error::CompressedForNode { shown, compression }
}

/// The failure when content and checksum do not fit.
pub fn mismatch(source: &Source, expected: &Digest, got: Option<&Digest>) -> Failure {
    let mismatch = Error::ChecksumMismatch {
        shown: source.shown(),
        expected: expected.to_string(),
        got: got.map(Digest::to_string),
    };
    source.explain(mismatch.into())
}

impl Source {
    /// Add to a checksum's failure where the checksum comes from.
    pub fn explain(&self, failure: Failure) -> Failure {
        match (&self.checksum_of, failure.kind) {
            (Some(other), FailureKind::ChecksumMismatch) => failure.hint(format!(
                "nothing was replaced; the only checksum in the file of checksums is of {other}: give one that names {}",
                self.name
            )),
            (None, FailureKind::ChecksumMismatch) => failure.hint(
                "nothing was replaced; fetch or build the image again, or set checksum: ALGORITHM:HEX to that of the image that you want",
            ),
            _ => failure,
        }
    }
}
