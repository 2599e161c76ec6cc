//! Users, API tokens, tickets and privileges.

mod acl;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::clock::now;
use crate::error::ApiError;
use crate::files::{Version, version, write_private};
use crate::schema::Params;
use acl::{Held, PRIVILEGES};

/// A ticket's life in seconds.
const TICKET_LIFE: u64 = 2 * 3600;

/// What provisioning needs and nothing more: the role of the least-privilege token that `init` makes.
const PROVISIONER: &[&str] = &[
    "Datastore.Allocate",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "SDN.Use",
    "VM.Allocate",
    "VM.Audit",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.GuestAgent.Audit",
    "VM.PowerMgmt",
];

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `user@realm`.
    pub user: String,
    /// The token's name.
    pub token: Option<String>,
}

impl Identity {
    /// `user@realm` or `user@realm!token`.
    pub fn id(&self) -> String {
        match &self.token {
            Some(token) => format!("{}!{token}", self.user),
            None => self.user.clone(),
        }
    }

    /// root itself, not one of its tokens.
    pub fn is_root(&self) -> bool {
        self.user == "root@pam" && self.token.is_none()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    #[serde(default = "yes")]
    enable: bool,
    /// Seconds since the epoch; 0 is never.
    #[serde(default)]
    expire: u64,
    /// SHA-256 of the password, hex; without one nobody logs in.
    #[serde(default)]
    password_sha256: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    secret_sha256: String,
    #[serde(default)]
    expire: u64,
    #[serde(default = "yes")]
    privsep: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Acl {
    path: String,
    /// `user@realm`, `user@realm!token` or `@group`.
    ugid: String,
    role: String,
    #[serde(default = "yes")]
    propagate: bool,
}

/// `access.json`: may be edited while the host runs.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
struct File {
    users: BTreeMap<String, User>,
    /// The members of groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<String, Vec<String>>,
    tokens: BTreeMap<String, Token>,
    roles: BTreeMap<String, Vec<String>>,
    acl: Vec<Acl>,
}

fn yes() -> bool {
    true
}

/// Credentials that `init` makes, in plain text, for `endpoint.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Password of root@pam.
    pub password: String,
    /// Secret of `root@pam!full`, a token without privilege separation.
    pub root_secret: String,
    /// Secret of `provisioner@pve!ansible`, which may only provision.
    pub provisioner_secret: String,
    /// Secret of `provisioner@pve!empty`, a privilege-separated token without any ACL.
    pub empty_secret: String,
}

/// Users, tokens, roles and ACLs.
pub struct Access {
    path: PathBuf,
    key: [u8; 32],
    state: Mutex<(Option<Version>, File)>,
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

impl Access {
    /// Write the first `access.json`.
    pub fn init(path: &Path, credentials: &Credentials) -> std::io::Result<()> {
        let user = |password: Option<&str>| User {
            enable: true,
            expire: 0,
            password_sha256: password.map(sha256),
        };
        let token = |secret: &str, privsep| Token {
            secret_sha256: sha256(secret),
            expire: 0,
            privsep,
        };
        let file = File {
            groups: BTreeMap::new(),
            users: BTreeMap::from([
                ("root@pam".into(), user(Some(&credentials.password))),
                ("provisioner@pve".into(), user(None)),
            ]),
            tokens: BTreeMap::from([
                (
                    "root@pam!full".into(),
                    token(&credentials.root_secret, false),
                ),
                (
                    "provisioner@pve!ansible".into(),
                    token(&credentials.provisioner_secret, false),
                ),
                (
                    "provisioner@pve!empty".into(),
                    token(&credentials.empty_secret, true),
                ),
            ]),
            roles: BTreeMap::from([(
                "Provisioner".into(),
                PROVISIONER.iter().map(|name| (*name).to_owned()).collect(),
            )]),
            acl: vec![Acl {
                path: "/".into(),
                ugid: "provisioner@pve".into(),
                role: "Provisioner".into(),
                propagate: true,
            }],
        };
        write_private(path, &serde_json::to_vec_pretty(&file)?)
    }

    /// Open an existing `access.json`; `key` signs tickets.
    pub fn open(path: PathBuf, key: [u8; 32]) -> Self {
        Self {
            path,
            key,
            state: Mutex::default(),
        }
    }

    fn file(&self) -> File {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let changed = version(&self.path);
        if changed != state.0 {
            let read = std::fs::read(&self.path)
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            match read {
                Some(file) => *state = (changed, file),
                None => eprintln!(
                    "pve-testhost: {} is not readable; the last good content stays",
                    self.path.display()
                ),
            }
        }
        state.1.clone()
    }

    /// Check `USER@REALM!ID=SECRET`.
    pub fn token(&self, text: &str) -> Option<Identity> {
        let at = text.find(['=', ' '])?;
        let (id, secret) = (&text[..at], &text[at + 1..]);
        let (user, name) = id.split_once('!')?;
        let file = self.file();
        let token = file.tokens.get(id)?;
        let alive = |expire: u64| expire == 0 || expire > now();
        let known = file.users.get(user)?;
        let good = token.secret_sha256 == sha256(secret)
            && alive(token.expire)
            && known.enable
            && alive(known.expire);
        good.then(|| Identity {
            user: user.into(),
            token: Some(name.into()),
        })
    }

    /// Check a ticket.
    pub fn ticket(&self, text: &str) -> Option<Identity> {
        let (plain, signature) = text.split_once("::")?;
        let mut parts = plain.split(':');
        let (Some("PVE"), Some(user), Some(time)) = (parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if self.sign(plain) != signature || !fresh(time) {
            return None;
        }
        let file = self.file();
        file.users.get(user).filter(|user| user.enable)?;
        Some(Identity {
            user: user.into(),
            token: None,
        })
    }

    /// A ticket for one port of a VM's console, as PVE::AccessControl::assemble_vnc_ticket makes it: it names nobody.
    pub fn console_ticket(&self, who: &Identity, path: &str, port: u16) -> String {
        let plain = format!("PVEVNC:{:08X}", now());
        let signature = self.sign(&format!("{plain}:{}:{path}:{port}", who.id()));
        format!("{plain}::{signature}")
    }

    /// Whether a console's ticket is this caller's, for this port, and of the last 40 seconds.
    pub fn is_console_ticket(&self, ticket: &str, who: &str, path: &str, port: u16) -> bool {
        let Some((plain, signature)) = ticket.split_once("::") else {
            return false;
        };
        let time = plain
            .strip_prefix("PVEVNC:")
            .and_then(|time| u64::from_str_radix(time, 16).ok());
        time.is_some_and(|time| time <= now() + 20 && now() <= time + 40)
            && self.sign(&format!("{plain}:{who}:{path}:{port}")) == signature
    }

    /// Check the CSRF token that came with a ticket.
    pub fn csrf(&self, user: &str, text: &str) -> bool {
        text.split_once(':').is_some_and(|(time, digest)| {
            fresh(time) && self.sign(&format!("{time}:{user}")) == digest
        })
    }

    /// POST /access/ticket.
    pub fn login(&self, params: &Params) -> Result<Value, ApiError> {
        let failure = || ApiError {
            delayed: true,
            ..ApiError::status(401, "authentication failure")
        };
        let get = |name: &str| params.get(name).map(String::as_str).unwrap_or_default();
        let user = match params.get("realm") {
            Some(realm) => format!("{}@{realm}", get("username")),
            None => get("username").to_owned(),
        };
        let file = self.file();
        let known = file
            .users
            .get(&user)
            .filter(|user| user.enable)
            .ok_or_else(failure)?;
        let password = get("password");
        let good = known
            .password_sha256
            .as_ref()
            .is_some_and(|known| *known == sha256(password))
            || self
                .ticket(password)
                .is_some_and(|identity| identity.user == user);
        if !good {
            return Err(failure());
        }
        let time = format!("{:08X}", now());
        let plain = format!("PVE:{user}:{time}");
        let identity = Identity {
            user: user.clone(),
            token: None,
        };
        let mut cap = serde_json::Map::new();
        for (kind, names) in PRIVILEGES.iter().filter(|(kind, _)| *kind != "pool") {
            let held: serde_json::Map<String, Value> = names
                .iter()
                .filter(|name| self.has_anywhere(&file, &identity, name))
                .map(|name| ((*name).into(), json!(1)))
                .collect();
            cap.insert((*kind).into(), held.into());
        }
        Ok(json!({
            "username": user,
            "ticket": format!("{plain}::{}", self.sign(&plain)),
            "CSRFPreventionToken": format!("{time}:{}", self.sign(&format!("{time}:{user}"))),
            "cap": cap,
        }))
    }

    /// Keyed twice, so that a digest cannot be extended.
    fn sign(&self, text: &str) -> String {
        let inner = Sha512::new()
            .chain_update(self.key)
            .chain_update(text)
            .finalize();
        STANDARD.encode(
            Sha512::new()
                .chain_update(self.key)
                .chain_update(inner)
                .finalize(),
        )
    }

    fn has_anywhere(&self, file: &File, identity: &Identity, privilege: &str) -> bool {
        let pools = self.pools();
        let mut paths = file.paths(&pools).into_iter();
        paths.any(|path| file.held(identity, &path, &pools).contains_key(privilege))
    }

    /// The pools with their VMs.
    fn pools(&self) -> BTreeMap<String, Vec<u32>> {
        crate::pools::pools(self.path.parent().unwrap_or(Path::new("")))
    }

    fn held(&self, identity: &Identity, path: &str) -> Held {
        self.file().held(identity, path, &self.pools())
    }

    /// Does this identity hold a privilege on a path?
    pub fn has(&self, identity: &Identity, path: &str, privilege: &str) -> bool {
        self.held(identity, path).contains_key(privilege)
    }

    /// All of these, or a 403 that names the first one missing.
    pub fn check(&self, identity: &Identity, path: &str, wanted: &[&str]) -> Result<(), ApiError> {
        let held = self.held(identity, path);
        match wanted.iter().find(|name| !held.contains_key(**name)) {
            Some(missing) => Err(ApiError::forbidden(path, missing)),
            None => Ok(()),
        }
    }

    /// One of these, or a 403.
    pub fn check_any(
        &self,
        identity: &Identity,
        path: &str,
        wanted: &[&str],
    ) -> Result<(), ApiError> {
        let held = self.held(identity, path);
        if wanted.iter().any(|name| held.contains_key(*name)) {
            return Ok(());
        }
        Err(ApiError::forbidden(path, &wanted.join("|")))
    }

    /// Check an endpoint's privilege expression.
    pub fn check_expression(
        &self,
        identity: &Identity,
        expression: &Value,
        params: &Params,
    ) -> Result<(), ApiError> {
        let Some(parts) = expression.as_array() else {
            return Ok(());
        };
        match parts.first().and_then(Value::as_str) {
            Some("perm") => {
                let mut path = parts
                    .get(1)
                    .and_then(Value::as_str)
                    .unwrap_or("/")
                    .to_owned();
                for (name, value) in params {
                    path = path.replace(&format!("{{{name}}}"), value);
                }
                let wanted: Vec<&str> = parts
                    .get(2)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                if parts.get(3).and_then(Value::as_str) == Some("any") {
                    self.check_any(identity, &path, &wanted)
                } else {
                    self.check(identity, &path, &wanted)
                }
            }
            Some("and") => parts[1..]
                .iter()
                .try_for_each(|part| self.check_expression(identity, part, params)),
            Some("or") => {
                let mut last = Ok(());
                for part in &parts[1..] {
                    // `["perm", PATH, PRIVS, "require_param", NAME]` counts only when NAME is given.
                    let lacks = |name: &str| !params.contains_key(name);
                    let required = part.get(3).and_then(Value::as_str) == Some("require_param");
                    if required && part.get(4).and_then(Value::as_str).is_none_or(lacks) {
                        continue;
                    }
                    last = self.check_expression(identity, part, params);
                    if last.is_ok() {
                        break;
                    }
                }
                last
            }
            _ => Ok(()),
        }
    }

    /// GET /access/permissions: path to privileges, each with whether it is handed on. Of others only with Sys.Audit on /access.
    pub fn permissions(&self, who: &Identity, params: &Params) -> Result<Value, ApiError> {
        let mut identity = who.clone();
        if let Some(id) = params.get("userid") {
            let (user, token) = match id.split_once('!') {
                Some((user, token)) => (user, Some(token.to_owned())),
                None => (id.as_str(), None),
            };
            identity = Identity {
                user: user.into(),
                token,
            };
            let own = identity == *who || (who.token.is_none() && identity.user == who.user);
            if !own {
                self.check(who, "/access", &["Sys.Audit"])?;
            }
        }
        let (file, pools) = (self.file(), self.pools());
        let paths = match params.get("path") {
            Some(path) => BTreeSet::from([path.clone()]),
            None => file.paths(&pools),
        };
        let mut found = serde_json::Map::new();
        for path in paths {
            let held: serde_json::Map<String, Value> = file
                .held(&identity, &path, &pools)
                .into_iter()
                .map(|(name, propagate)| (name, json!(u8::from(propagate))))
                .collect();
            // A path that was asked for is shown even when nothing is held there.
            if !held.is_empty() || params.contains_key("path") {
                found.insert(path, held.into());
            }
        }
        Ok(found.into())
    }
}

fn fresh(time: &str) -> bool {
    let now = now();
    u64::from_str_radix(time, 16).is_ok_and(|time| time <= now + 300 && now < time + TICKET_LIFE)
}
