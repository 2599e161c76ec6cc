//! Assets of GitHub releases.

use ansible_module::{Failure, FailureKind};
use deadline::Deadline;
use serde::Deserialize;

use crate::address::{Address, shown};
use crate::checksum::Digest;
use crate::fetch::With;
use crate::glob;
use crate::options::GithubRelease;
use crate::response_cache;
use crate::source::{Origin, Source};

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
///
/// # Errors
/// When there is no such release or asset, or several assets.
pub async fn find(wanted: &GithubRelease, deadline: &Deadline) -> Result<Source, Failure> {
    let invalid =
        |what: String| Failure::new(FailureKind::InvalidOption, format!("github_release.{what}"));
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
        return Err(invalid(format!(
            "repo: expected OWNER/NAME (got '{}')",
            wanted.repo
        )));
    }
    let api = wanted.api_url.trim_end_matches('/');
    let token = wanted
        .token
        .as_ref()
        .map(|token| token.expose().trim())
        .filter(|token| !token.is_empty());
    if token.is_some() && !is_private(api) {
        return Err(invalid(format!(
            "token: is not sent to {api} in clear text; use https in github_release.api_url"
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
    let text = response_cache::text(&url, with, deadline)
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
            FailureKind::UnexpectedAnswer,
            format!("{} does not answer as GitHub's API does: {e}", shown(&url)),
        )
        .object(shown(&url))
    })?;
    let asset = pick(&found, &wanted.asset, &what)?;
    let digest = asset
        .digest
        .as_deref()
        .and_then(|text| text.parse::<Digest>().ok());
    let address = Address::parse(&asset.browser_download_url, "browser_download_url")?;
    // The token is for the API's host, whatever the answer says.
    let private = token
        .filter(|_| host(&asset.url).is_some() && host(&asset.url) == host(api))
        .map(|token| (asset.url.clone(), token.to_string()));
    Ok(Source {
        name: asset.name.clone(),
        origin: Origin::Url {
            public: address,
            private,
        },
        size: Some(asset.size),
        checksum: digest,
        checksum_of: None,
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
            FailureKind::NotFound,
            format!(
                "{what} ({tag}) has no asset like {pattern}; it has: {}",
                names(&release.assets.iter().collect::<Vec<_>>())
            ),
        )),
        several => Err(Failure::new(
            FailureKind::Ambiguous,
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
            many.kind == FailureKind::Ambiguous && many.msg.contains("a-aarch64.iso"),
            "{}",
            many.msg
        );
        let none = pick(&release, "*.img", "r").unwrap_err();
        assert!(
            none.kind == FailureKind::NotFound && none.msg.contains("a.sha256"),
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
