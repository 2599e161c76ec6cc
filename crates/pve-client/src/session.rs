//! Proving who asks: an API token as it is, or a ticket that is fetched and renewed.

use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::params::encode;
use crate::{Credential, Error};

/// Tickets live for two hours; they are renewed with half of that left.
const RENEW_AFTER: Duration = Duration::from_secs(3600);

/// A ticket as POST /access/ticket gave it.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub ticket: String,
    csrf: String,
    since: Instant,
}

impl Ticket {
    /// From the answer's `data`.
    pub fn from_answer(data: &Value) -> Result<Self, Error> {
        let unexpected = |detail: &str| Error::Unexpected {
            action: "POST /access/ticket".into(),
            detail: detail.to_string(),
        };
        if data
            .get("NeedTFA")
            .is_some_and(|need| need != 0 && need != &Value::Bool(false))
        {
            return Err(Error::Settings(
                "this user needs a second factor to log in; use an API token (api_token_id, api_token_secret)".into(),
            ));
        }
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_string);
        Ok(Self {
            ticket: text("ticket").ok_or_else(|| unexpected("no ticket in it"))?,
            csrf: text("CSRFPreventionToken")
                .ok_or_else(|| unexpected("no CSRFPreventionToken in it"))?,
            since: Instant::now(),
        })
    }

    /// Whether it is time for a new one.
    pub fn is_old(&self) -> bool {
        self.since.elapsed() > RENEW_AFTER
    }

    /// The headers that prove it; the CSRF token is asked of writes only.
    pub fn headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        let cookie = format!("PVEAuthCookie={}", encode(&self.ticket));
        headers.insert(reqwest::header::COOKIE, secret_header(&cookie)?);
        headers.insert(
            HeaderName::from_static("csrfpreventiontoken"),
            secret_header(&self.csrf)?,
        );
        Ok(headers)
    }
}

/// The header of an API token.
pub(crate) fn token_headers(id: &str, secret: &str) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(
        reqwest::header::AUTHORIZATION,
        secret_header(&format!("PVEAPIToken={id}={secret}"))?,
    );
    Ok(headers)
}

fn secret_header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::Settings("the API credentials hold a line break or another control character".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Refuse credentials that cannot work, before any server sees them.
pub(crate) fn check(credential: &Credential) -> Result<(), Error> {
    match credential {
        Credential::Token { id, secret } => {
            let shaped = id
                .split_once('!')
                .is_some_and(|(user, name)| user.contains('@') && !name.is_empty());
            if !shaped {
                return Err(Error::Settings(format!(
                    "the API token id '{id}' is not of the form user@realm!name"
                )));
            }
            token_headers(id, secret).map(|_| ())
        }
        Credential::Password { user, .. } if !user.contains('@') => Err(Error::Settings(format!(
            "the API user '{user}' has no realm; write user@realm, such as root@pam"
        ))),
        Credential::Password { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_credentials_are_refused_early() {
        let token = |id: &str, secret: &str| {
            check(&Credential::Token {
                id: id.into(),
                secret: secret.into(),
            })
        };
        assert!(token("root@pam!ci", "x").is_ok());
        assert!(token("root!ci", "x").is_err());
        assert!(token("root@pam", "x").is_err());
        assert!(
            token("root@pam!ci", "x\ny")
                .unwrap_err()
                .to_string()
                .contains("line break")
        );
        assert!(
            check(&Credential::Password {
                user: "root".into(),
                password: "x".into()
            })
            .is_err()
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let credential = Credential::Token {
            id: "a@b!c".into(),
            secret: "hidden-secret".into(),
        };
        assert!(!format!("{credential:?}").contains("hidden"));
        assert!(
            !format!("{:?}", token_headers("a@b!c", "hidden-secret").unwrap()).contains("hidden")
        );
    }
}
