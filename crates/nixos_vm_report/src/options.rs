//! The options of the module.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The options of the module.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Options {
    /// What C(nixos_vm_lifecycle) with C(step=plan) returned for each host of the play, failures included: the results by the hosts' names.
    /// An empty dict stands for a host whose task did not end.
    #[schemars(extend("x-ansible" = {"type": "dict"}))]
    pub plans: BTreeMap<String, Value>,

    /// A file of the controller that the report is written to, as JSON if its name ends in C(.json), as a page if it ends in C(.html), and
    /// as text otherwise. Its directory must exist.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub path: Option<PathBuf>,

    /// Which hosts are in RV(failed_hosts).
    #[serde(default)]
    pub fail_on: FailOn,
}

/// Which hosts the play fails for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailOn {
    /// Those that a run would refuse.
    #[default]
    Refusals,
    /// Those that a run would refuse or change: for drift detection.
    Changes,
    /// None.
    Never,
}
