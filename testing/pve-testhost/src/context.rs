//! What the handler of a call gets: the node, the user and the parameters.

use std::sync::Arc;

use serde_json::json;

use crate::access::Identity;
use crate::error::{ApiError, ApiResult};
use crate::faults::Interrupt;
use crate::host::Host;
use crate::schema::Params;
use crate::task::KILLED;

/// What a handler gets.
pub struct Context {
    /// The node of the path, or the one that was asked.
    pub host: Arc<Host>,
    /// Who asks.
    pub who: Identity,
    /// Verified parameters, path parameters included.
    pub params: Params,
    /// The call's task (or the call, when it has none) is to fail with this.
    pub fail: Option<String>,
    /// What happens to the call's task in its middle.
    pub interrupt: Interrupt,
}

impl Context {
    /// A parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    /// A parameter that the schema demands.
    pub fn need(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name)
            .ok_or_else(|| ApiError::param(name, "property is missing and it is not optional"))
    }

    /// A boolean parameter; false when absent.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("1")
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)
            .and_then(|value| value.trim_start_matches('+').parse().ok())
    }

    /// The VM of the path.
    pub fn vmid(&self) -> Result<u32, ApiError> {
        self.need("vmid")?.parse().map_err(|_| {
            ApiError::param(
                "vmid",
                "invalid format - value does not look like a valid VM ID\n",
            )
        })
    }

    /// Start a worker.
    pub fn spawn<W>(
        &self,
        kind: &str,
        id: &str,
        work: impl FnOnce(crate::task::Log) -> W + Send + 'static,
    ) -> ApiResult
    where
        W: Future<Output = Result<(), String>> + Send + 'static,
    {
        // Those that have a middle are killed there.
        let has_middle = matches!(
            kind,
            "qmcreate" | "qmclone" | "qmsnapshot" | "qmrollback" | "qmdelsnapshot"
        );
        let killed = (self.interrupt.kill && !has_middle).then(|| KILLED.to_owned());
        Ok(json!(self.host.tasks.spawn(
            kind,
            id,
            &self.who,
            self.fail.clone().or(killed),
            work
        )))
    }

    /// May this user see something?
    pub fn may(&self, path: &str, privileges: &[&str]) -> bool {
        self.host
            .access
            .check_any(&self.who, path, privileges)
            .is_ok()
    }
}
