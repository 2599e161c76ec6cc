//! Writing to a VM only while a condition on its configuration holds.

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::{Client, Error, Params};
use serde_json::{Map, Value};

use crate::doing;

/// How often a configuration that changes between the check and the write is read again.
const ATTEMPTS: u32 = 5;

/// Refuses a VM by its configuration, as `GET config` shows it (pending changes as if made).
pub type Guard<'a> = dyn Fn(&Map<String, Value>) -> Result<(), Failure> + 'a;

/// A VM on its node, whose configuration is written only while the guard, if there is one, accepts it.
#[derive(Clone, Copy)]
pub struct GuardedVm<'a> {
    /// The API.
    pub client: &'a Client,
    /// The node that the VM is on.
    pub node: &'a str,
    /// The VM's ID.
    pub vmid: u32,
    /// The limit for every call.
    pub deadline: &'a Deadline,
    /// The condition.
    pub guard: Option<&'a Guard<'a>>,
}

impl std::fmt::Debug for GuardedVm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedVm")
            .field("node", &self.node)
            .field("vmid", &self.vmid)
            .field("guarded", &self.guard.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a write was not made.
#[derive(Debug)]
pub enum WriteError {
    /// The API's answer.
    Api(Box<Error>),
    /// The guard's refusal.
    Refused(Box<Failure>),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl WriteError {
    /// Whether a change may have been made although no answer came.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Api(error) if error.may_have_happened())
    }

    /// As the failure of a task that was to do `what`. A guard's refusal stays as it is.
    pub fn doing(self, what: impl std::fmt::Display) -> Failure {
        match self {
            Self::Api(error) => doing(what)(*error),
            Self::Refused(failure) => *failure,
        }
    }
}

impl GuardedVm<'_> {
    /// Ask the guard. Returns the digest of the configuration that it accepted, for the write that follows.
    ///
    /// # Errors
    /// Those of the API, and the guard's refusal.
    pub async fn check(&self) -> Result<Option<String>, WriteError> {
        let Some(guard) = self.guard else {
            return Ok(None);
        };
        let config = self
            .client
            .vm_config(self.node, self.vmid, false, self.deadline)
            .await?;
        guard(&config).map_err(|failure| WriteError::Refused(Box::new(failure)))?;
        let digest = config.get("digest").and_then(Value::as_str);
        Ok(digest.map(str::to_owned))
    }

    /// Change the configuration. With a guard the write carries the digest of what the guard accepted,
    /// so that PVE refuses it if the configuration has changed since; then the guard is asked again.
    ///
    /// # Errors
    /// Those of the API, and the guard's refusal.
    pub async fn configure(&self, params: &Params) -> Result<(), WriteError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let mut params = params.clone();
            if let Some(digest) = self.check().await? {
                params.set("digest", digest);
            }
            let written = self
                .client
                .vm_configure(self.node, self.vmid, &params, self.deadline)
                .await;
            match written {
                Err(error) if attempts > 0 && is_stale(&error) => {}
                settled => return settled.map_err(Into::into),
            }
        }
    }
}

/// Whether PVE refused the digest (`PVE::Tools::assert_if_modified`).
fn is_stale(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.message.contains("checksum mismatch (file change by other user"))
}
