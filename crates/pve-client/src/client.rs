//! Sending requests: hosts, authentication, retries, errors.

mod read;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadline::{Deadline, backoff};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::error::root_cause;
use crate::params::{Params, encode_pairs};
use crate::session::{self, Ticket};
use crate::tls::{self, LastRejected};
use crate::{Credential, Error, Settings};

/// pveproxy closes a connection that was idle for 5 s without notice.
const IDLE: Duration = Duration::from_secs(3);
/// A host that does not take a connection within this time is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a call is repeated that failed for the network's sake (about ten seconds of
/// backoff, which covers a restart of pveproxy).
pub(crate) const RETRIES: u32 = 6;

/// A client of one cluster's API. Cheap to clone; clones share connections and the ticket.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    http: reqwest::Client,
    tls: rustls::ClientConfig,
    rejected: LastRejected,
    /// Index of the host in use.
    host: AtomicUsize,
    ticket: Mutex<Option<Ticket>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.settings).finish()
    }
}

/// A request that may be sent more than once.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    /// Encoded query without `?`.
    pub query: String,
    /// Encoded form body.
    pub form: Option<String>,
}

impl<'a> Call<'a> {
    /// GET `path` with this query.
    pub fn get(path: &'a str, query: &[(&str, String)]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: query_text(query),
            form: None,
        }
    }

    /// Method and path, for errors.
    pub fn action(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

impl Client {
    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Settings`] when they make no sense or a certificate file cannot be used.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        if settings.hosts.is_empty() {
            return Err(Error::Settings("no API host is given".into()));
        }
        for host in &settings.hosts {
            if host.is_empty()
                || host.contains('/')
                || host.contains(char::is_whitespace)
                || host.contains('@')
                || host.contains(':') && !is_ipv6(host)
            {
                return Err(Error::Settings(format!(
                    "'{host}' is not a host name or address (no scheme, no path, no zone, no port, which is an option of its own)"
                )));
            }
        }
        session::check(&settings.credential)?;
        let (tls, rejected) = tls::config(&settings.tls)?;
        let http = http_client(&settings, &tls)?;
        let host = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner {
            settings,
            http,
            tls,
            rejected,
            host,
            ticket: Mutex::new(None),
        })))
    }

    /// GET: read. Retried within the deadline. Returns the answer's `data`; [`Client::read_as`] takes less memory.
    pub async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        deadline: &Deadline,
    ) -> Result<Value, Error> {
        self.call(Call::get(path, query), deadline).await
    }

    /// POST: create or act. Returns the answer's `data`, a UPID where PVE makes a task of it.
    pub async fn post(
        &self,
        path: &str,
        params: &Params,
        deadline: &Deadline,
    ) -> Result<Value, Error> {
        self.call(
            Call {
                method: Method::POST,
                path,
                query: String::new(),
                form: Some(params.to_form()),
            },
            deadline,
        )
        .await
    }

    /// PUT: change. Returns the answer's `data`.
    pub async fn put(
        &self,
        path: &str,
        params: &Params,
        deadline: &Deadline,
    ) -> Result<Value, Error> {
        self.call(
            Call {
                method: Method::PUT,
                path,
                query: String::new(),
                form: Some(params.to_form()),
            },
            deadline,
        )
        .await
    }

    /// DELETE: remove. Its parameters go into the query: pveproxy refuses a body.
    pub async fn delete(
        &self,
        path: &str,
        query: &[(&str, String)],
        deadline: &Deadline,
    ) -> Result<Value, Error> {
        self.call(
            Call {
                method: Method::DELETE,
                path,
                query: query_text(query),
                form: None,
            },
            deadline,
        )
        .await
    }

    /// Send `call` until it is settled: reads again after any failure of the network, writes
    /// only when nothing was sent, both while somebody else holds a lock.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        deadline: &Deadline,
    ) -> Result<T, Error> {
        let since = Instant::now();
        let mut locked = 0;
        let mut failed = 0;
        loop {
            let error = match self.once(&call, deadline).await {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            let pause = if error.is_lock_contention() {
                locked += 1;
                backoff(locked, Duration::from_secs(2))
            } else if self.should_retry(&error, call.is_write()) && failed < RETRIES * self.hosts()
            {
                failed += 1;
                // The other hosts are asked at once, all of them again after a pause.
                if failed % self.hosts() == 0 {
                    backoff(failed / self.hosts(), Duration::from_secs(4))
                } else {
                    Duration::ZERO
                }
            } else {
                return Err(error);
            };
            if !deadline.sleep(pause).await {
                return Err(match error {
                    Error::Refused(mut refusal) => {
                        refusal.retried = Some(since.elapsed());
                        Error::Refused(refusal)
                    }
                    other => other,
                });
            }
        }
    }

    /// Whether a failure is the network's, and sending again is right. Moves on to the next host.
    pub(crate) fn should_retry(&self, error: &Error, write: bool) -> bool {
        let network = match error {
            Error::Unreachable { .. } => true,
            Error::Interrupted { .. } => !write,
            Error::Refused(refusal) => !write && matches!(refusal.status, 502..=504 | 595 | 596),
            _ => false,
        };
        if network {
            self.next_host();
        }
        network
    }

    /// Leave the host in use for the next one.
    pub(crate) fn next_host(&self) {
        self.0.host.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hosts(&self) -> u32 {
        self.0.settings.hosts.len() as u32
    }

    /// Send `call` once; a second time with a new ticket if the old one is no longer taken.
    async fn once<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        deadline: &Deadline,
    ) -> Result<T, Error> {
        let answer = self.send(call, self.auth(deadline).await?, deadline).await;
        match answer {
            Err(error) if error.is_authentication() && self.forget_ticket().await => {
                self.send(call, self.auth(deadline).await?, deadline).await
            }
            other => other,
        }
    }

    /// Send `call` with these authentication headers and read the answer.
    ///
    /// A change is sent only while there is time: whoever was suspended meanwhile, with the machine
    /// or alone, no longer knows whether it is still wanted.
    async fn send<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        auth: HeaderMap,
        deadline: &Deadline,
    ) -> Result<T, Error> {
        if call.is_write() && deadline.expired() {
            return Err(not_sent(&call.action(), deadline));
        }
        let mut request = self
            .0
            .http
            .request(call.method.clone(), self.url(call.path, &call.query))
            .headers(auth);
        if let Some(form) = &call.form {
            request = request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone());
        }
        let limit = deadline.shorter(self.0.settings.request_timeout);
        let exchange = async {
            let response = request
                .send()
                .await
                .map_err(|e| self.transport(&call.action(), e, call.is_write()))?;
            self.read(response, &call.action(), call.is_write()).await
        };
        let answered = async {
            match call.is_write() {
                true => {
                    let guarded = deadline.guard(call.action(), exchange);
                    limit.run(call.action(), guarded).await?
                }
                false => limit.run(call.action(), exchange).await,
            }
        };
        match answered.await {
            Ok(result) => result,
            Err(expired) if deadline.expired() => Err(Error::Expired {
                expired,
                last: None,
                may_have_happened: call.is_write(),
            }),
            Err(_) => Err(Error::Interrupted {
                action: call.action(),
                detail: format!(
                    "no answer from {} within {} s",
                    self.address(),
                    self.0.settings.request_timeout.as_secs()
                ),
                may_have_happened: call.is_write(),
            }),
        }
    }

    /// Headers that prove who asks; logs in or renews the ticket first if need be.
    pub(crate) async fn auth(&self, deadline: &Deadline) -> Result<HeaderMap, Error> {
        let (user, password) = match &self.0.settings.credential {
            Credential::Token { id, secret } => return session::token_headers(id, secret),
            Credential::Password { user, password } => (user, password),
        };
        let mut ticket = self.0.ticket.lock().await;
        let renewed = match &*ticket {
            Some(known) if !known.is_old() => return known.headers(),
            // A ticket is taken as password and gives a new one.
            Some(old) => self.log_in(user, &old.ticket, deadline).await.ok(),
            None => None,
        };
        let fresh = match renewed {
            Some(fresh) => fresh,
            None => self.log_in(user, password, deadline).await?,
        };
        ticket.insert(fresh).headers()
    }

    async fn log_in(
        &self,
        user: &str,
        password: &str,
        deadline: &Deadline,
    ) -> Result<Ticket, Error> {
        let form = Params::new()
            .with("username", user)
            .with("password", password)
            .to_form();
        let call = Call {
            method: Method::POST,
            path: "/access/ticket",
            query: String::new(),
            form: Some(form),
        };
        let data: Value = self.send(&call, HeaderMap::new(), deadline).await?;
        Ticket::from_answer(&data)
    }

    /// Drop the ticket; whether there was one.
    pub(crate) async fn forget_ticket(&self) -> bool {
        self.0.ticket.lock().await.take().is_some()
    }

    /// A client with no connections yet, for a request that cannot be repeated after an idle
    /// connection turned out to be closed.
    pub(crate) fn fresh_http(&self) -> Result<reqwest::Client, Error> {
        http_client(&self.0.settings, &self.0.tls)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.settings.request_timeout
    }

    pub(crate) fn url(&self, path: &str, query: &str) -> String {
        let question = if query.is_empty() { "" } else { "?" };
        format!(
            "https://{}/api2/json{path}{question}{query}",
            self.address()
        )
    }

    /// Who asks: `user@realm` or `user@realm!token`.
    pub fn caller(&self) -> &str {
        self.0.settings.credential.caller()
    }

    /// Host and port in use.
    pub fn address(&self) -> String {
        let hosts = &self.0.settings.hosts;
        self.join(&hosts[self.0.host.load(Ordering::Relaxed) % hosts.len()])
    }

    fn addresses(&self) -> String {
        self.0
            .settings
            .hosts
            .iter()
            .map(|host| self.join(host))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn join(&self, host: &str) -> String {
        let port = self.0.settings.port;
        if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

fn http_client(settings: &Settings, tls: &rustls::ClientConfig) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(IDLE)
        // Sooner than the request's own time is over: nothing was sent then, and that is known.
        .connect_timeout(CONNECT.min(settings.request_timeout / 2))
        .tcp_nodelay(true)
        .user_agent(concat!("nixos-proxmox/", env!("CARGO_PKG_VERSION")));
    // A proxy from the environment cannot reach this machine's own loopback.
    if settings.hosts.iter().all(|host| is_loopback(host)) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|e| Error::Settings(format!("HTTP client: {}", root_cause(&e))))
}

/// Whether it is an IPv6 address, which may be in brackets. URLs have no zones.
fn is_ipv6(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn query_text(query: &[(&str, String)]) -> String {
    encode_pairs(query.iter().map(|(name, value)| (*name, value.as_str())))
}

/// The error of a change whose time was over before it was sent.
pub(crate) fn not_sent(action: &str, deadline: &Deadline) -> Error {
    Error::Expired {
        expired: deadline.expired_error(format!("{action} to be sent"), Duration::ZERO),
        last: Some(
            "nothing was sent, because the time was over before (was this process suspended?)"
                .into(),
        ),
        may_have_happened: false,
    }
}

#[cfg(test)]
mod tests;
