//! Addresses as services hand them out: what of them is a secret, which file they name, and what
//! stays the same when only the credentials in them change.

use percent_encoding::percent_decode_str;
use pve_client::Content;
use pve_client::sha256_bytes;
use pve_client::volid::normalise_upload_name;
use reqwest::Url;

use crate::compression::Compression;
use crate::error::Error;

/// Shorter secrets are masked together with what is around them: alone they may be any word.
const SHORT: usize = 6;

/// Parts of parameter names whose values only authorise the request.
const CREDENTIALS: &[&str] = &[
    "token",
    "signature",
    "secret",
    "passw",
    "pwd",
    "auth",
    "cred",
    "jwt",
    "session",
    "ticket",
    "nonce",
    "hmac",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "access-key",
    "key-pair",
    "googleaccessid",
    "x-amz-",
    "x-goog-",
    "x-oss-",
    "x-cos-",
];
/// Names of such parameters, as a whole.
const CREDENTIAL_NAMES: &[&str] = &[
    "sig", "sign", "expires", "expiry", "exp", "policy", "otp", "sas", "pass", "authkey",
];
/// Parameters of Azure's shared access signatures beside `sig`.
const AZURE: &[&str] = &[
    "sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "sip", "skoid", "sktid", "skt", "ske", "sks",
    "skv", "sdd",
];
/// Parts of parameter names whose values may be secrets.
const DOUBTFUL: &[&str] = &["key", "code", "hash", "access", "grant", "policy"];

/// An http or https address.
#[derive(Debug, Clone)]
pub struct Address(Url);

impl Address {
    /// Read the value of `option`. Blanks around it and a fragment are dropped, characters that a
    /// request cannot carry are encoded.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str, option: &str) -> Result<Self, Error> {
        let trimmed = text.trim();
        let named = || (option.to_owned(), masked_text(trimmed));
        let mut url = Url::parse(trimmed).map_err(|error| {
            let (option, shown) = named();
            match trimmed.contains("://") {
                false => Error::NoScheme { option, shown },
                true => Error::InvalidAddress {
                    option,
                    shown,
                    problem: error.to_string(),
                },
            }
        })?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            let (option, shown) = named();
            return Err(Error::NotHttp { option, shown });
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The whole address, secrets included.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address without user, password and query, which may be secrets.
    pub fn shown(&self) -> String {
        shown(self.as_str())
    }

    /// Whether anybody on the way can change what it gives.
    pub fn is_clear_text(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// Whether it carries credentials.
    pub fn has_secret(&self) -> bool {
        !self.0.username().is_empty()
            || self.0.password().is_some()
            || self
                .0
                .query_pairs()
                .any(|(name, value)| !value.is_empty() && is_credential(&name, &value))
    }

    /// What names the source whoever asks for it: without user, password, and those parameters that
    /// only authorise the request. Values that may be secrets are replaced by their checksums.
    pub fn identity(&self) -> String {
        let pairs: Vec<_> = self.0.query_pairs().collect();
        let azure = pairs.iter().any(|(name, _)| name == "sig");
        let kept: Vec<String> = pairs
            .iter()
            .filter(|(name, value)| {
                !(is_credential(name, value) || azure && AZURE.contains(&name.as_ref()))
            })
            .map(|(name, value)| match is_secret(name, value) {
                true => format!("{name}=sha256:{}", &sha256_bytes(value.as_bytes())[..16]),
                false => format!("{name}={value}"),
            })
            .collect();
        let mut plain = self.0.clone();
        // Both cannot fail for http and https.
        let _ = plain.set_username("");
        let _ = plain.set_password(None);
        plain.set_query(None);
        match kept.is_empty() {
            true => plain.to_string(),
            false => format!("{plain}?{}", kept.join("&")),
        }
    }

    /// The last part of the path.
    pub fn last_part(&self) -> String {
        self.parts().next_back().unwrap_or_default()
    }

    /// The name of an image in the address: in the end of its path, in a parameter, or in another
    /// part of the path (`.../nixos.iso/download`).
    pub fn image_name(&self) -> Option<String> {
        let last = self.parts().next_back().filter(|name| is_image_name(name));
        last.or_else(|| {
            self.0
                .query_pairs()
                .filter_map(|(_, value)| {
                    disposition_name(&value).or_else(|| Some(base_name(&value)))
                })
                .find(|name| is_image_name(name))
        })
        .or_else(|| self.parts().rev().find(|name| is_image_name(name)))
    }

    /// The parts of the path that are not empty, decoded, without `;` parameters.
    fn parts(&self) -> impl DoubleEndedIterator<Item = String> + '_ {
        let parts: Vec<&str> = self
            .0
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        parts.into_iter().map(|part| {
            let decoded = decode(part);
            match decoded.split_once(';') {
                Some((name, _)) if is_image_name(name) => name.to_string(),
                _ => decoded,
            }
        })
    }

    /// The path, decoded.
    pub fn path(&self) -> String {
        decode(self.0.path())
    }
}

/// Whether it is the name of an image, or of one that is compressed.
pub fn is_image_name(name: &str) -> bool {
    let (plain, _) = Compression::of_name(name);
    let name = normalise_upload_name(plain);
    Content::ALL.iter().any(|content| content.takes(&name))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn base_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_string()
}

/// The file name in a Content-Disposition header.
pub fn disposition_name(header: &str) -> Option<String> {
    let mut plain = None;
    for part in split_quoted(header) {
        let Some((name, value)) = part.split_once('=') else {
            continue;
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            // RFC 5987: charset'language'percent-encoded. It comes before the plain one.
            "filename*" => {
                let encoded = value.trim_matches('"').splitn(3, '\'').nth(2)?;
                return Some(base_name(&decode(encoded))).filter(|name| !name.is_empty());
            }
            "filename" => {
                let value = match value
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'))
                {
                    Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
                    None => value.to_string(),
                };
                plain = Some(base_name(&value)).filter(|name| !name.is_empty());
            }
            _ => {}
        }
    }
    plain
}

/// Split at semicolons outside quotes.
fn split_quoted(text: &str) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in text.chars() {
        match c {
            ';' if !quoted => {
                parts.push(String::new());
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// Whether the value of this parameter only authorises the request.
fn is_credential(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (CREDENTIAL_NAMES.contains(&name.as_str())
        || CREDENTIALS.iter().any(|part| name.contains(part)))
        && !is_image_name(&base_name(value))
}

/// Whether the value of this parameter may be a secret.
fn is_secret(name: &str, value: &str) -> bool {
    if value.is_empty() || is_image_name(&base_name(value)) || disposition_name(value).is_some() {
        return false;
    }
    let random = value.len() >= 20
        && value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().any(|b| b.is_ascii_alphabetic())
        && !value.contains(['/', ' ']);
    let name = name.to_ascii_lowercase();
    random || is_credential(&name, value) || DOUBTFUL.iter().any(|part| name.contains(part))
}

/// The secrets in an address as it was typed, in the spellings in which they may come back.
pub fn secrets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |before: &str, value: &str, after: &str| {
        if value.is_empty() {
            return;
        }
        found.push(format!("{before}{value}{after}"));
        let plus = value.replace('+', " ");
        for spelling in [value.to_string(), decode(value), decode(&plus)] {
            if spelling.len() >= SHORT {
                found.push(spelling);
            }
        }
    };
    let Some((_, rest)) = text.split_once("://") else {
        return found;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if let Some((userinfo, _)) = rest[..end].rsplit_once('@') {
        match userinfo.split_once(':') {
            // A token may stand in either place; a user's name is an ordinary word.
            Some((user, password)) => {
                if user.len() >= 20 || password.is_empty() || password == "x-oauth-basic" {
                    add("", user, ":");
                }
                add(":", password, "@");
            }
            None => add("", userinfo, "@"),
        }
    }
    let tail = rest[end..].split(['?', '#', '&']).skip(1);
    for (name, value) in tail.filter_map(|pair| pair.split_once('=')) {
        let plain = decode(&value.replace('+', " "));
        if is_secret(&decode(name), &plain) {
            add(&format!("{name}="), value, "");
        }
    }
    found
}

/// A text that may be an address, as it may be shown.
pub fn masked_text(text: &str) -> String {
    match text.find("://") {
        Some(at) => {
            // What comes before the scheme, such as `sha256:`.
            let scheme = text[..at].rfind(':').map_or(0, |colon| colon + 1);
            format!("{}{}", &text[..scheme], shown(&text[scheme..]))
        }
        None => text.to_string(),
    }
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

#[cfg(test)]
mod tests;
