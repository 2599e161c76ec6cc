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

    /// For what a host is listed in RV(refused).
    #[serde(default)]
    pub fail_on: FailOn,
}

/// For what the play fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailOn {
    /// A run would be refused.
    #[default]
    Mistakes,
    /// A run would be refused, or would change something: for drift detection.
    Changes,
    /// Nothing.
    Never,
}
