//! Assets of GitHub releases.

use ansible_module::Failure;
use deadline::Deadline;
use serde::Deserialize;

use crate::address::{Address, shown};
use crate::checksum::Digest;
use crate::error::Error;
use crate::fetch::With;
use crate::glob;
use crate::options::GithubRelease;
use crate::response_cache;

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

/// An asset of a release, and where it can be had.
pub struct ReleaseAsset {
    pub name: String,
    pub size: u64,
    /// Its checksum, if GitHub tells it.
    pub checksum: Option<Digest>,
    /// Where anybody may fetch it.
    pub public: Address,
    /// Where the API gives it to the holder of the token, and the token.
    pub private: Option<(String, String)>,
}

/// Find the one asset.
///
/// # Errors
/// When there is no such release or asset, or several assets.
pub async fn find(wanted: &GithubRelease, deadline: &Deadline) -> Result<ReleaseAsset, Failure> {
    let api = wanted.api_url.trim_end_matches('/');
    let token = wanted
        .token
        .as_ref()
        .map(|token| token.expose().trim())
        .filter(|token| !token.is_empty());
    check(wanted, api, token)?;
    let named = format!("release {} of {}", wanted.tag, wanted.repo);
    let release = read(wanted, api, token, &named, deadline).await?;
    let asset = pick(&release, &wanted.asset, &named)?;
    let digest = asset.digest.as_deref();
    // The token is for the API's host, whatever the answer says.
    let private = token
        .filter(|_| host(&asset.url).is_some() && host(&asset.url) == host(api))
        .map(|token| (asset.url.clone(), token.to_string()));
    Ok(ReleaseAsset {
        name: asset.name.clone(),
        size: asset.size,
        checksum: digest.and_then(|text| text.parse::<Digest>().ok()),
        public: Address::parse(&asset.browser_download_url, "browser_download_url")?,
        private,
    })
}

/// Refuse a repository that is not one of GitHub's form, and a token that anybody on the way could read.
fn check(wanted: &GithubRelease, api: &str, token: Option<&str>) -> Result<(), Error> {
    let is_name = |text: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !text.is_empty() && text != ".." && text.bytes().all(is_plain)
    };
    let parts = wanted.repo.split_once('/');
    if !parts.is_some_and(|(owner, name)| is_name(owner) && is_name(name)) {
        return Err(Error::InvalidRepo(wanted.repo.clone()));
    }
    if token.is_some() && !is_private(api) {
        let api = api.to_owned();
        return Err(Error::TokenInClearText { api });
    }
    Ok(())
}

/// What the API tells of the release that messages call `named`.
async fn read(
    wanted: &GithubRelease,
    api: &str,
    token: Option<&str>,
    named: &str,
    deadline: &Deadline,
) -> Result<Release, Failure> {
    let tag = match wanted.tag.as_str() {
        "latest" => "latest".to_string(),
        tag => format!(
            "tags/{}",
            percent_encoding::utf8_percent_encode(tag, percent_encoding::NON_ALPHANUMERIC)
        ),
    };
    let url = format!("{api}/repos/{}/releases/{tag}", wanted.repo);
    let with = With {
        token,
        accept: Some("application/vnd.github+json"),
    };
    let text = response_cache::text(&url, with, deadline)
        .await
        .map_err(|mut failed| {
            failed.msg = format!("cannot look up {named}: {}", failed.msg);
            match failed.status {
                Some(404) => failed.hint(
                    "there is no such release; drafts and pre-releases are never the latest, and a private repository \
                     shows itself only with a token (github_release.token or GITHUB_TOKEN)",
                ),
                Some(401) => failed.hint("github_release.token (or GITHUB_TOKEN) is not valid there"),
                _ => failed,
            }
        })?;
    let release = serde_json::from_str(&text).map_err(|problem| Error::NotGithub {
        shown: shown(&url),
        problem,
    })?;
    Ok(release)
}

/// The one asset whose name fits.
fn pick<'a>(release: &'a Release, pattern: &str, what: &str) -> Result<&'a Asset, Error> {
    let fitting: Vec<_> = release
        .assets
        .iter()
        .filter(|asset| glob::matches(pattern, &asset.name))
        .collect();
    let names = |assets: &[&Asset]| assets.iter().map(|asset| asset.name.clone()).collect();
    let (release_name, tag) = (what.to_owned(), release.tag_name.clone());
    let pattern = pattern.to_owned();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::NoAsset {
            release: release_name,
            tag,
            pattern,
            assets: names(&release.assets.iter().collect::<Vec<_>>()),
        }),
        several => Err(Error::AmbiguousAsset {
            release: release_name,
            tag,
            pattern,
            assets: names(several),
        }),
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
        assert!(matches!(many, Error::AmbiguousAsset { .. }));
        assert!(many.to_string().contains("a-aarch64.iso"), "{many}");
        let none = pick(&release, "*.img", "r").unwrap_err();
        assert!(matches!(none, Error::NoAsset { .. }));
        assert!(none.to_string().contains("a.sha256"), "{none}");
    }

    #[test]
    fn tokens_stay_private() {
        assert!(is_private("https://github.example/api/v3"));
        assert!(is_private("http://127.0.0.1:8080"));
        assert!(!is_private("http://github.example"));
        assert_ne!(host("https://a.example/x"), host("https://a.example:444/x"));
    }
}
