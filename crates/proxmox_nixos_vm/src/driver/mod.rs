//! One task from its options to its result: find the VM, make it if there is none, plan, stop there in check mode, apply.

mod absent;
mod converge;
mod current;
mod ha;
mod locate;
mod new_vm;
mod reconcile;
mod report;

use std::time::Duration;

use ansible_module::{Failure, Outcome, Task};
use pve_module::Session;
use serde_json::{Map, Value};

use crate::cluster::vmid::VmidRange;
use crate::config::text;
use crate::context::Context;
use crate::desired::Desired;
use crate::error::Error;
use crate::guard::ownership::Ownership;
use crate::options::{Options, State as Target};
use crate::state;

/// What is wished of a node besides what the options say.
pub struct Wish<'a> {
    /// The node that was chosen earlier: it is kept while it fits.
    pub before: Option<&'a str>,
    /// A storage that it must have for an ISO.
    pub iso_storage: Option<&'a str>,
    /// A storage that it must have for a disk image, from which the VM is made.
    pub import_storage: Option<&'a str>,
    /// How long the VM counts on its node before it is made.
    pub hold: Duration,
}

/// Do the task.
///
/// # Errors
/// Kind `invalid_option` for mistakes in the options, before any request. Everything else as the steps report it, with
/// what the API knows about a missing privilege.
pub async fn run(options: Options, task: Task, ownership: Ownership) -> Result<Outcome, Failure> {
    // Refused below, but not shown for that.
    let misplaced = options
        .config
        .as_ref()
        .and_then(|config| config.get("cipassword"));
    if let Some(password) = misplaced.and_then(text::scalar) {
        task.secret(&password);
    }
    let desired = Desired::from_options(&options)
        .map_err(Error::InvalidOptions)?
        .owned(ownership);
    let range = options.vmid_range.as_deref().map(VmidRange::parse);
    let range = range
        .transpose()
        .map_err(|mistake| Error::InvalidOptions(vec![mistake]))?;
    let session = Session::open(
        &options.connection,
        options.timeout,
        options.progress_path.as_deref(),
        task,
    )?;
    let context = Context {
        shared: session.context(),
        cache: None,
    };
    let driver = Driver {
        context: &context,
        options: &options,
        desired: &desired,
        range,
    };
    let done = match options.state {
        Target::Current => driver.report_current().await,
        Target::Absent => driver.remove_vm().await,
        Target::Present
        | Target::Started
        | Target::Stopped
        | Target::Restarted
        | Target::Template => driver.converge().await,
    };
    session.explain(done).await
}

/// Choose a node for a VM that is made later: see [`crate::place`].
///
/// # Errors
/// As those of [`run`] for a VM that cannot be made.
pub async fn place(options: Options, task: Task, wish: Wish<'_>) -> Result<String, Failure> {
    let desired = Desired::from_options(&options).map_err(Error::InvalidOptions)?;
    let session = Session::open(&options.connection, options.timeout, None, task)?;
    let context = Context {
        shared: session.context(),
        cache: None,
    };
    let driver = Driver {
        context: &context,
        options: &options,
        desired: &desired,
        range: None,
    };
    session.explain(driver.place(&wish).await).await
}

/// A task, with what every part of it needs.
struct Driver<'a> {
    context: &'a Context<'a>,
    options: &'a Options,
    desired: &'a Desired,
    range: Option<VmidRange>,
}

impl Driver<'_> {
    /// The API's hosts, which tell locks of one cluster from those of another.
    fn cluster(&self) -> String {
        let connection = &self.options.connection;
        format!("{}:{}", connection.api_host.join(","), connection.api_port)
    }

    /// Whether a VM on another node is to be migrated.
    fn migrates(&self) -> bool {
        self.options.migrate && !matches!(self.options.state, Target::Absent | Target::Current)
    }

    /// What to call the VM when there is none.
    fn described(&self) -> String {
        match (&self.options.name, self.options.vmid) {
            (Some(name), _) => format!("VM {name}"),
            (None, Some(vmid)) => format!("VM {vmid}"),
            (None, None) => "the VM".into(),
        }
    }

    fn missing(&self) -> Map<String, Value> {
        state::missing(self.options.name.as_deref(), self.options.vmid)
    }
}
