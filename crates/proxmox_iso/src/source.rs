//! Where the ISO comes from: a file, an address, or an asset of a GitHub release.

use std::path::PathBuf;

use ansible_module::Failure;
use deadline::Deadline;
use serde::Deserialize;

use crate::answers;
use crate::fetch::{Fetch, With, shown};
use crate::glob;
use crate::options::{Checksum, GithubRelease, Options, url_file_name};
use crate::sums;

/// The media type for which GitHub's API gives an asset itself rather than its description.
const BYTES: &str = "application/octet-stream";

/// A source, with what is known of it before any of its bytes are read.
pub struct Source {
    /// Its own file name.
    pub name: String,
    /// Where its bytes are.
    pub origin: Origin,
    /// Its size, where it is told.
    pub size: Option<u64>,
    /// Its SHA-256 in hex, where it was given or told.
    pub sha256: Option<String>,
}

/// Where the bytes are.
pub enum Origin {
    /// In a local file.
    File(PathBuf),
    /// On a server.
    Url {
        /// Where anybody may fetch it.
        public: String,
        /// Where the API gives it to the holder of the token.
        private: Option<(String, String)>,
    },
}

impl Source {
    /// The source that the options name; `None` when they name none.
    ///
    /// # Errors
    /// When a file cannot be read, a release, an asset or a checksum not be found.
    pub async fn resolve(options: &Options, deadline: &Deadline) -> Result<Option<Self>, Failure> {
        let mut source = match (&options.src, &options.url, &options.github_release) {
            (Some(src), ..) => Self::file(src.clone())?,
            (None, Some(url), _) => Self {
                name: url_file_name(url),
                origin: Origin::Url {
                    public: url.clone(),
                    private: None,
                },
                size: None,
                sha256: None,
            },
            (None, None, Some(wanted)) => release(wanted, deadline).await?,
            (None, None, None) => return Ok(None),
        };
        let given = match options.checksum()? {
            None => return Ok(Some(source)),
            Some(Checksum::Sha256(digits)) => digits,
            Some(Checksum::Sums(url)) => listed(&url, &source.name, deadline).await?,
        };
        if let Some(told) = source.sha256.filter(|told| *told != given) {
            return Err(Failure::new(
                "checksum_mismatch",
                format!(
                    "the release says that {} has SHA-256 {told}, checksum says {given}",
                    source.name
                ),
            )
            .object(source.name)
            .hint("one of the two was tampered with, or is of another release"));
        }
        source.sha256 = Some(given);
        Ok(Some(source))
    }

    fn file(path: PathBuf) -> Result<Self, Failure> {
        let meta = std::fs::metadata(&path).and_then(|meta| match meta.is_file() {
            true => Ok(meta),
            false => Err(std::io::Error::other("it is not a regular file")),
        });
        let meta = meta.map_err(|e| {
            Failure::new("file", format!("cannot read src {}: {e}", path.display()))
                .object(path.display().to_string())
        })?;
        Ok(Self {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            origin: Origin::File(path),
            size: Some(meta.len()),
            sha256: None,
        })
    }

    /// The address from which a node can download it.
    pub fn url(&self) -> Option<&str> {
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
            Origin::Url { public, .. } => Some((public, With::default())),
        }
    }

    /// What it is called in messages.
    pub fn shown(&self) -> String {
        match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Url { public, .. } => shown(public),
        }
    }
}

/// The checksum of `name` in the file of checksums at `url`.
async fn listed(url: &str, name: &str, deadline: &Deadline) -> Result<String, Failure> {
    let text = Fetch::new()?.text(url, With::default(), deadline).await?;
    sums::find(&text, name).map_err(|what| {
        Failure::new("checksum", format!("{} cannot be used: {what}", shown(url)))
            .object(shown(url))
            .hint("checksum: sha256:URL wants a file of sha256sum or sha256 that names the image")
    })
}

#[derive(Debug, Deserialize)]
struct Release {
    tag_name: String,
    assets: Vec<Asset>,
}

#[derive(Debug, Deserialize)]
struct Asset {
    name: String,
    size: u64,
    /// `sha256:HEX`; missing on assets that were uploaded before GitHub computed it.
    #[serde(default)]
    digest: Option<String>,
    /// The asset in the API.
    url: String,
    browser_download_url: String,
}

/// Find the one asset.
async fn release(wanted: &GithubRelease, deadline: &Deadline) -> Result<Source, Failure> {
    let invalid = |what: String| Failure::new("invalid_option", format!("github_release: {what}"));
    let part = |text: &str| {
        !text.is_empty()
            && text != ".."
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !wanted
        .repo
        .split_once('/')
        .is_some_and(|(owner, name)| part(owner) && part(name))
    {
        return Err(invalid(format!("repo '{}' is not OWNER/NAME", wanted.repo)));
    }
    let api = wanted.api_url.trim_end_matches('/');
    let token = wanted
        .token
        .as_ref()
        .map(|token| token.expose().trim())
        .filter(|token| !token.is_empty());
    if token.is_some() && !is_private(api) {
        return Err(invalid(format!(
            "the token is not sent to {api} in clear text; use https"
        )));
    }
    let place = match wanted.tag.as_str() {
        "latest" => "latest".to_string(),
        tag => format!(
            "tags/{}",
            percent_encoding::utf8_percent_encode(tag, percent_encoding::NON_ALPHANUMERIC)
        ),
    };
    let url = format!("{api}/repos/{}/releases/{place}", wanted.repo);
    let with = With {
        token,
        accept: Some("application/vnd.github+json"),
    };
    let what = format!("release {} of {}", wanted.tag, wanted.repo);
    let text = answers::text(&url, with, deadline)
        .await
        .map_err(|mut failed| {
            failed.msg = format!("cannot look up {what}: {}", failed.msg);
            match failed.status {
                Some(404) => failed.hint(
                    "there is no such release; drafts and pre-releases are never the latest, and a private repository \
                     shows itself only with a token (github_release.token or GITHUB_TOKEN)",
                ),
                Some(401) => failed.hint("github_release.token (or GITHUB_TOKEN) is not valid there"),
                _ => failed,
            }
        })?;
    let found: Release = serde_json::from_str(&text).map_err(|e| {
        Failure::new(
            "unexpected_answer",
            format!("{} is no release of GitHub's API: {e}", shown(&url)),
        )
        .object(shown(&url))
    })?;
    let asset = pick(&found, &wanted.asset, &what)?;
    let digest = asset.digest.as_deref().and_then(|text| {
        text.strip_prefix("sha256:")
            .filter(|digits| sums::is_sha256(digits))
            .map(str::to_ascii_lowercase)
    });
    // The token is for the API's host, whatever the answer says.
    let private = token
        .filter(|_| host(&asset.url).is_some() && host(&asset.url) == host(api))
        .map(|token| (asset.url.clone(), token.to_string()));
    Ok(Source {
        name: asset.name.clone(),
        origin: Origin::Url {
            public: asset.browser_download_url.clone(),
            private,
        },
        size: Some(asset.size),
        sha256: digest,
    })
}

/// The one asset whose name fits.
fn pick<'a>(release: &'a Release, pattern: &str, what: &str) -> Result<&'a Asset, Failure> {
    let fitting: Vec<_> = release
        .assets
        .iter()
        .filter(|asset| glob::matches(pattern, &asset.name))
        .collect();
    let names = |assets: &[&Asset]| {
        let names: Vec<_> = assets.iter().map(|asset| asset.name.as_str()).collect();
        names.join(", ")
    };
    let tag = &release.tag_name;
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new(
            "not_found",
            format!(
                "{what} ({tag}) has no asset like {pattern}; it has: {}",
                names(&release.assets.iter().collect::<Vec<_>>())
            ),
        )),
        several => Err(Failure::new(
            "ambiguous",
            format!(
                "{what} ({tag}) has several assets like {pattern}: {}",
                names(several)
            ),
        )
        .hint("make github_release.asset fit one of them")),
    }
}

/// Scheme, host and port.
fn host(url: &str) -> Option<(String, String, u16)> {
    let url = reqwest::Url::parse(url).ok()?;
    Some((
        url.scheme().to_string(),
        url.host_str()?.to_string(),
        url.port_or_known_default()?,
    ))
}

/// Whether nobody can listen: TLS, or this machine.
fn is_private(url: &str) -> bool {
    host(url).is_some_and(|(scheme, host, _)| {
        scheme == "https" || matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(name: &str) -> Asset {
        Asset {
            name: name.into(),
            size: 1,
            digest: None,
            url: String::new(),
            browser_download_url: String::new(),
        }
    }

    #[test]
    fn exactly_one_asset_must_fit() {
        let release = Release {
            tag_name: "v1".into(),
            assets: vec![
                asset("a-x86_64.iso"),
                asset("a-aarch64.iso"),
                asset("a.sha256"),
            ],
        };
        assert_eq!(
            pick(&release, "*-x86_64.iso", "r").unwrap().name,
            "a-x86_64.iso"
        );
        let many = pick(&release, "*.iso", "r").unwrap_err();
        assert!(
            many.kind == "ambiguous" && many.msg.contains("a-aarch64.iso"),
            "{}",
            many.msg
        );
        let none = pick(&release, "*.img", "r").unwrap_err();
        assert!(
            none.kind == "not_found" && none.msg.contains("a.sha256"),
            "{}",
            none.msg
        );
    }

    #[test]
    fn tokens_stay_private() {
        assert!(is_private("https://github.example/api/v3"));
        assert!(is_private("http://127.0.0.1:8080"));
        assert!(!is_private("http://github.example"));
        assert_ne!(host("https://a.example/x"), host("https://a.example:444/x"));
    }
}
