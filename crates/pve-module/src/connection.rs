//! The options for the connection: the API's address and the credentials.

use std::path::PathBuf;
use std::time::Duration;

use ansible_module::{Failure, FailureKind, Rule, Secret};
use pve_client::{Client, Credential, Settings, Tls};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure;

/// Connection options, flattened into the options of each module. They are named as those of
/// `community.proxmox` and fall back to the same environment variables.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Connection {
    /// Host name or address of a Proxmox VE node. With a list of nodes of one cluster the first
    /// that answers is used, and the next one when it stops answering.
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_HOST"]}))]
    pub api_host: Vec<String>,

    /// TCP port of the API.
    #[serde(default = "default_port")]
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_PORT"]}))]
    pub api_port: u16,

    /// User with realm, such as V(root@pam). Not needed with a full O(api_token_id).
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_USER"]}))]
    pub api_user: Option<String>,

    /// Password of O(api_user). An API token is the better choice.
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_PASSWORD"]}))]
    pub api_password: Option<Secret>,

    /// Name of an API token of O(api_user), or its full ID, such as V(ansible@pve!deploy). An empty one stands
    /// for none, so that O(api_password) counts although the environment or the play's defaults give a token.
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_TOKEN_ID"]}))]
    pub api_token_id: Option<String>,

    /// Secret of the API token.
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_TOKEN_SECRET"]}))]
    pub api_token_secret: Option<Secret>,

    /// Whether the server's certificate must be trusted. V(false) lets anybody on the network
    /// path read the credentials; O(tls_fingerprint) is the safe way to use a self-signed one.
    #[serde(default = "default_true")]
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_VALIDATE_CERTS"]}))]
    pub validate_certs: bool,

    /// PEM file with the only authorities to trust, such as a copy of the cluster's own
    /// C(/etc/pve/pve-root-ca.pem). Without it the system's are trusted.
    #[schemars(extend("x-ansible" = {"type": "path", "env": ["PROXMOX_CA_PATH"]}))]
    pub ca_path: Option<PathBuf>,

    /// SHA-256 fingerprint of the server's certificate, as C(pvenode cert info) shows it. A server
    /// with that certificate is trusted, self-signed or not, and no other. A list, one for each
    /// node, goes with a list in O(api_host).
    #[schemars(extend("x-ansible" = {"env": ["PROXMOX_TLS_FINGERPRINT"]}))]
    pub tls_fingerprint: Option<Vec<String>>,

    /// Longest wait for the answer to one API request, in seconds. Proxmox VE itself may take 30.
    #[serde(default = "default_api_timeout")]
    pub api_timeout: u64,
}

fn default_port() -> u16 {
    8006
}

fn default_true() -> bool {
    true
}

fn default_api_timeout() -> u64 {
    60
}

impl Connection {
    /// The rules between these options, for [`ansible_module::Module::rules`].
    pub fn rules() -> Vec<Rule> {
        vec![
            Rule::RequiredOneOf(&["api_password", "api_token_id"]),
            // Not the other way round: an empty api_token_id stands for none.
            Rule::RequiredBy {
                option: "api_token_secret",
                needs: &["api_token_id"],
            },
            Rule::RequiredBy {
                option: "api_password",
                needs: &["api_user"],
            },
            Rule::MutuallyExclusive(&["ca_path", "tls_fingerprint"]),
        ]
    }

    /// The names of these options.
    pub fn names() -> Vec<String> {
        let schema = schemars::schema_for!(Self);
        let properties = schema.get("properties").and_then(|all| all.as_object());
        properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// A client with these options. Nothing is sent yet.
    ///
    /// # Errors
    /// A failure of kind `invalid_option` naming the option that makes no sense.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(self.settings()?).map_err(failure)
    }

    fn settings(&self) -> Result<Settings, Failure> {
        if self.api_timeout == 0 {
            return Err(Failure::new(
                FailureKind::InvalidOption,
                "api_timeout must be at least 1 second",
            ));
        }
        Ok(Settings {
            hosts: self
                .api_host
                .iter()
                .map(|host| host.trim().to_string())
                .collect(),
            port: self.api_port,
            credential: self.credential()?,
            tls: match (&self.tls_fingerprint, &self.ca_path, self.validate_certs) {
                (Some(list), ..) => Tls::Fingerprint(list.clone()),
                (None, _, false) => Tls::Insecure,
                (None, Some(path), true) => Tls::CaFile(path.clone()),
                (None, None, true) => Tls::System,
            },
            request_timeout: Duration::from_secs(self.api_timeout),
        })
    }

    fn credential(&self) -> Result<Credential, Failure> {
        let invalid = |msg: &str| Failure::new(FailureKind::InvalidOption, msg);
        // Empty where the environment or the play's defaults give a token and the task wants none.
        let token_id = self.api_token_id.as_ref().filter(|id| !id.is_empty());
        match (
            token_id,
            &self.api_token_secret,
            &self.api_user,
            &self.api_password,
        ) {
            (Some(id), Some(secret), user, _) => {
                let id = match (id.contains('!'), user) {
                    (true, _) => id.clone(),
                    (false, Some(user)) => format!("{user}!{id}"),
                    (false, None) => {
                        return Err(invalid(
                            "api_token_id is only a token's name; set api_user too, or write user@realm!name",
                        ));
                    }
                };
                Ok(Credential::Token {
                    id,
                    secret: secret.expose().to_string(),
                })
            }
            (None, _, Some(user), Some(password)) => Ok(Credential::Password {
                user: user.clone(),
                password: password.expose().to_string(),
            }),
            _ => Err(invalid(
                "set api_token_id and api_token_secret, or api_user and api_password",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn connection(more: Value) -> Connection {
        let mut options = json!({"api_host": ["pve1"]});
        options
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(options).unwrap()
    }

    #[test]
    fn a_tokens_name_is_completed_by_the_user() {
        let named =
            connection(json!({"api_user": "a@pve", "api_token_id": "t", "api_token_secret": "s"}));
        assert_eq!(named.credential().unwrap().caller(), "a@pve!t");
        let full = connection(
            json!({"api_user": "x@pam", "api_token_id": "a@pve!t", "api_token_secret": "s"}),
        );
        assert_eq!(full.credential().unwrap().caller(), "a@pve!t");
        let alone = connection(json!({"api_token_id": "t", "api_token_secret": "s"}));
        assert!(alone.credential().unwrap_err().msg.contains("api_user"));
        let without = connection(
            json!({"api_user": "root@pam", "api_password": "p", "api_token_id": "", "api_token_secret": "s"}),
        );
        assert_eq!(without.credential().unwrap().caller(), "root@pam");
        let empty =
            connection(json!({"api_user": "root@pam", "api_password": "p", "api_token_id": ""}));
        assert_eq!(empty.credential().unwrap().caller(), "root@pam");
        let incomplete =
            connection(json!({"api_user": "root@pam", "api_password": "p", "api_token_id": "t"}));
        let refused = incomplete.credential().unwrap_err();
        assert!(refused.msg.contains("api_token_secret"), "{}", refused.msg);
    }

    #[test]
    fn a_fingerprint_wins_over_no_validation() {
        let pinned = connection(
            json!({"api_user": "a@pve", "api_password": "p", "validate_certs": false, "tls_fingerprint": ["aa"]}),
        );
        assert!(matches!(
            pinned.settings().unwrap().tls,
            Tls::Fingerprint(_)
        ));
        assert_eq!(
            pinned.client().unwrap_err().kind,
            FailureKind::InvalidOption
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?}",
            connection(json!({"api_user": "a@pve", "api_password": "hidden"}))
        );
        assert!(!shown.contains("hidden"));
    }
}
