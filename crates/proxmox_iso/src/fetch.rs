//! HTTP to servers that are not Proxmox VE: where images and their checksums come from.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use futures_util::StreamExt;
use pve_client::ByteStream;
use pve_module::failure;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Response, Url};
use ring::digest::{Context, SHA256};

/// Answers that are read as a whole are refused beyond this size.
const MOST_TEXT: usize = 8 << 20;
/// A server that says nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// A client of such servers. Credentials given for one host never go to another: redirects lose
/// them, and none leads from https to http.
pub struct Fetch {
    http: reqwest::Client,
}

/// What a request carries besides its address.
#[derive(Default, Clone, Copy)]
pub struct With<'a> {
    /// A bearer token.
    pub token: Option<&'a str>,
    /// The media type asked for.
    pub accept: Option<&'static str>,
}

/// A download that has begun.
pub struct Download {
    /// Its size in bytes, when the server tells it.
    pub size: Option<u64>,
    /// Its bytes.
    pub stream: ByteStream,
}

impl Fetch {
    /// A client that believes the system's certificate authorities.
    ///
    /// # Errors
    /// Kind `invalid_option` when the system has none.
    pub fn new() -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(pve_client::system_tls().map_err(failure)?)
            .redirect(Policy::custom(redirect))
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(SILENCE)
            .user_agent(concat!("nixos-proxmox/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Failure::new("download", format!("HTTP client: {e}")))?;
        Ok(Self { http })
    }

    /// GET; the answer's head has arrived and is a success.
    async fn get(
        &self,
        url: &str,
        with: With<'_>,
        deadline: &Deadline,
    ) -> Result<Response, Failure> {
        let shown = shown(url);
        let parsed = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Failure::new(
                    "invalid_option",
                    format!("'{shown}' is no http or https address"),
                )
            })?;
        let mut request = self.http.get(parsed);
        if let Some(token) = with.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Failure::new("invalid_option", "the token holds a control character")
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(accept) = with.accept {
            request = request.header(ACCEPT, accept);
        }
        let answer = deadline
            .run(format!("the answer of {shown}"), request.send())
            .await?
            .map_err(|e| broken(url, &e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let limited = answer
            .headers()
            .get("x-ratelimit-remaining")
            .is_some_and(|left| left == "0");
        let mut failed = Failure::new("download", format!("{shown} answered {status}"))
            .object(shown)
            .status(status.as_u16());
        if limited {
            failed = failed.hint("its rate limit is used up: set a token, or wait");
        }
        Err(failed)
    }

    /// A text of moderate size.
    ///
    /// # Errors
    /// Kind `download`; `status` is set when the server answered with an error.
    pub async fn text(
        &self,
        url: &str,
        with: With<'_>,
        deadline: &Deadline,
    ) -> Result<String, Failure> {
        body(url, self.get(url, with, deadline).await?, deadline).await
    }

    /// The same, and how long its server lets it be used again (Cache-Control).
    ///
    /// # Errors
    /// As [`Fetch::text`].
    pub async fn text_and_age(
        &self,
        url: &str,
        with: With<'_>,
        deadline: &Deadline,
    ) -> Result<(String, Option<Duration>), Failure> {
        let answer = self.get(url, with, deadline).await?;
        let control = answer.headers().get(reqwest::header::CACHE_CONTROL);
        let age = control.and_then(|control| max_age(control.to_str().ok()?));
        Ok((body(url, answer, deadline).await?, age))
    }

    /// Begin a download.
    ///
    /// # Errors
    /// As [`Fetch::text`].
    pub async fn download(
        &self,
        url: &str,
        with: With<'_>,
        deadline: &Deadline,
    ) -> Result<Download, Failure> {
        let answer = self.get(url, with, deadline).await?;
        let size = answer
            .headers()
            .get(reqwest::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let stream = answer
            .bytes_stream()
            .map(|bytes| bytes.map_err(|e| std::io::Error::other(root(&e))))
            .boxed();
        Ok(Download { size, stream })
    }
}

/// The body of an answer, which must be a text of moderate size.
async fn body(url: &str, mut answer: Response, deadline: &Deadline) -> Result<String, Failure> {
    let mut body = Vec::new();
    let shown = shown(url);
    while let Some(bytes) = deadline
        .run(format!("the text of {shown}"), answer.chunk())
        .await?
        .map_err(|e| broken(url, &e))?
    {
        body.extend_from_slice(&bytes);
        if body.len() > MOST_TEXT {
            return Err(Failure::new(
                "download",
                format!("{shown} is no short text"),
            ));
        }
    }
    String::from_utf8(body)
        .map_err(|_| Failure::new("download", format!("{shown} is no text")).object(shown))
}

/// The `max-age` of a Cache-Control header, unless it forbids to keep the answer.
fn max_age(control: &str) -> Option<Duration> {
    let mut words = control
        .split(',')
        .map(|word| word.trim().to_ascii_lowercase());
    if words
        .clone()
        .any(|word| word == "no-store" || word == "no-cache")
    {
        return None;
    }
    let age = words.find_map(|word| word.strip_prefix("max-age=")?.parse().ok())?;
    Some(Duration::from_secs(age)).filter(|age| !age.is_zero())
}

/// Ten redirects, and none that gives up TLS. (Credentials are taken off by reqwest as soon as host
/// or port differ.)
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from_tls = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if from_tls && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from https to http");
    }
    Policy::limited(10).redirect(attempt)
}

fn broken(url: &str, error: &reqwest::Error) -> Failure {
    let shown = shown(url);
    Failure::new("download", format!("cannot read {shown}: {}", root(error))).object(shown)
}

/// The innermost error's words.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// An address without user, password and query, which may be secrets.
pub fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => plain.to_string(),
    }
}

/// Count and hash a stream as it passes.
#[derive(Clone)]
pub struct Hashing(Arc<Mutex<Context>>);

impl Hashing {
    /// The same stream, and what hashes it.
    pub fn of(stream: ByteStream) -> (ByteStream, Self) {
        let hashing = Self(Arc::new(Mutex::new(Context::new(&SHA256))));
        let inner = hashing.clone();
        let stream = stream.map(move |bytes| {
            if let Ok(bytes) = &bytes {
                inner
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .update(bytes);
            }
            bytes
        });
        (stream.boxed(), hashing)
    }

    /// SHA-256 in hex of what has passed.
    pub fn sha256(&self) -> String {
        let context = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        hex::encode(context.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_answer_lasts() {
        let minute = Some(Duration::from_secs(60));
        assert_eq!(max_age("public, max-age=60, s-maxage=60"), minute);
        assert_eq!(max_age("Private,Max-Age=60"), minute);
        for none in [
            "",
            "no-cache",
            "max-age=60, no-store",
            "max-age=0",
            "s-maxage=60",
            "max-age=x",
        ] {
            assert_eq!(max_age(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_is_no_secret() {
        assert_eq!(
            shown("https://u:p@h.example:8/a/x.iso?sig=secret#f"),
            "https://h.example:8/a/x.iso"
        );
        assert_eq!(shown("https://h/a@b"), "https://h/a@b");
        assert_eq!(shown("https://u:p@h"), "https://h");
    }
}
