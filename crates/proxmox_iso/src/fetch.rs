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
use serde::{Deserialize, Serialize};

use crate::address::{disposition_name, shown};
use crate::checksum::{Digest, Hasher};
use crate::content::HEAD;
use crate::error::Error;

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

/// What a server says of a file beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Its size in bytes.
    pub size: Option<u64>,
    /// When it was last changed, in the server's own words.
    pub modified: Option<String>,
    /// Its entity tag.
    pub etag: Option<String>,
    /// The last part of the path that the address was redirected to.
    pub file: Option<String>,
    /// The name in Content-Disposition.
    #[serde(skip)]
    pub disposition: Option<String>,
    /// Its media type.
    #[serde(skip)]
    pub media_type: Option<String>,
}

impl Facts {
    fn of(answer: &Response) -> Self {
        let header = |name: reqwest::header::HeaderName| {
            let value = answer.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Self {
            size: header(reqwest::header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            modified: header(reqwest::header::LAST_MODIFIED),
            etag: header(reqwest::header::ETAG),
            file: Some(last_part(answer.url())).filter(|file| !file.is_empty()),
            disposition: header(reqwest::header::CONTENT_DISPOSITION)
                .and_then(|header| disposition_name(&header)),
            media_type: header(reqwest::header::CONTENT_TYPE),
        }
    }

    /// What the server calls the file, the most telling first.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.disposition.iter().chain(&self.file)
    }
}

fn last_part(url: &Url) -> String {
    let part = url.path().rsplit('/').next().unwrap_or_default();
    percent_encoding::percent_decode_str(part)
        .decode_utf8_lossy()
        .into_owned()
}

/// A download that has begun.
pub struct Download {
    /// What its server says of it.
    pub facts: Facts,
    /// Its bytes.
    pub stream: ByteStream,
}

impl Download {
    /// Its first bytes, as many as tell what it is; they stay in the stream.
    ///
    /// # Errors
    /// Kinds `download` and `timeout`.
    pub async fn peek(&mut self, shown: &str, deadline: &Deadline) -> Result<Vec<u8>, Failure> {
        let mut head = Vec::new();
        let mut read = Vec::new();
        while head.len() < HEAD {
            let next = deadline
                .run(format!("the first bytes of {shown}"), self.stream.next())
                .await?;
            let Some(bytes) = next else { break };
            let bytes = bytes.map_err(|error| Error::interrupted(shown, error))?;
            head.extend_from_slice(&bytes);
            read.push(Ok(bytes));
        }
        head.truncate(HEAD);
        let rest = std::mem::replace(&mut self.stream, futures_util::stream::empty().boxed());
        self.stream = futures_util::stream::iter(read).chain(rest).boxed();
        Ok(head)
    }
}

/// A text that was read.
pub struct Text {
    /// The text itself.
    pub text: String,
    /// How long its server lets it be used again (Cache-Control).
    pub age: Option<Duration>,
    /// The last part of the path that the address was redirected to.
    pub file: Option<String>,
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
            .map_err(Error::HttpClient)?;
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
            .ok_or_else(|| Error::LinkNotHttp(shown.clone()))?;
        let mut request = self.http.get(parsed);
        if let Some(token) = with.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Error::InvalidToken)?;
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
        let is_rate_limited = answer
            .headers()
            .get("x-ratelimit-remaining")
            .is_some_and(|left| left == "0");
        let error = Error::HttpStatus {
            shown,
            status,
            is_rate_limited,
        };
        Err(error.into())
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
    ) -> Result<Text, Failure> {
        let answer = self.get(url, with, deadline).await?;
        let control = answer.headers().get(reqwest::header::CACHE_CONTROL);
        let age = control.and_then(|control| max_age(control.to_str().ok()?));
        let file = Facts::of(&answer).file;
        Ok(Text {
            text: body(url, answer, deadline).await?,
            age,
            file,
        })
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
        let facts = Facts::of(&answer);
        let stream = answer
            .bytes_stream()
            .map(|bytes| bytes.map_err(|e| std::io::Error::other(root(&e))))
            .boxed();
        Ok(Download { facts, stream })
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
            return Err(Error::LongText(shown).into());
        }
    }
    // PowerShell writes UTF-16 with a byte order mark.
    let text = match body.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8(body).ok(),
    };
    Ok(text.ok_or(Error::NotText(shown))?)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| unit([pair[0], pair[1]]))
        .collect();
    String::from_utf16(&units).ok()
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

fn broken(url: &str, error: &reqwest::Error) -> Error {
    Error::interrupted(&shown(url), root(error))
}

/// The innermost error's words.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Hash a stream as it passes.
#[derive(Clone)]
pub struct Hashing(Arc<Mutex<Hasher>>);

impl Hashing {
    /// The same stream, and what hashes it.
    pub fn of(stream: ByteStream, hasher: Hasher) -> (ByteStream, Self) {
        let hashing = Self(Arc::new(Mutex::new(hasher)));
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

    /// The checksums of what has passed.
    pub fn digests(&self) -> Vec<Digest> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .digests()
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
}
