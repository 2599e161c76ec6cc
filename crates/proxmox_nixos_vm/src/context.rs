//! What every step of a task needs, and the answers that tasks share.

use std::ops::Deref;

use ansible_module::Failure;
use pve_client::Error;
pub use pve_module::failed;
use serde_json::Value;

use crate::response_cache::ResponseCache;

/// What every step of a task needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The API's client, the deadline, the progress log and the Ansible task.
    pub shared: pve_module::Context<'a>,
    /// The answers that tasks of this controller share while they make VMs at once. Other tasks have no cache.
    pub cache: Option<&'a ResponseCache>,
}

impl<'a> Deref for Context<'a> {
    type Target = pve_module::Context<'a>;

    fn deref(&self) -> &pve_module::Context<'a> {
        &self.shared
    }
}

impl Context<'_> {
    /// GET what is the same for many tasks, so that only one of them sends the request. `wrong` converts the API's error.
    pub async fn get_shared(
        &self,
        path: &str,
        query: &[(&str, String)],
        wrong: impl FnOnce(Error) -> Failure,
    ) -> Result<Value, Failure> {
        let answer = match self.cache {
            Some(cache) => cache.get(self.client, self.deadline, path, query).await?,
            None => self.client.get(path, query, self.deadline).await,
        };
        answer.map_err(wrong)
    }
}

/// A failure after the VM was already made or changed.
pub fn done(failure: Failure, vmid: u32, node: &str) -> Failure {
    failure
        .with("changed", true)
        .with("vmid", vmid)
        .with("node", node)
}

/// [`done`] when `changed`, else the failure as it is.
pub fn done_if(changed: bool, failure: Failure, vmid: u32, node: &str) -> Failure {
    if changed {
        done(failure, vmid, node)
    } else {
        failure
    }
}
