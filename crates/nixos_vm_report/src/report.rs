//! The plans of all hosts, put together.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::capacity::{self, After};
use crate::conflicts::{self, Conflict};
use crate::host_plan::{Action, HostPlan};
use crate::options::FailOn;
use crate::text;

/// What a run would do to all machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One sentence.
    pub summary: String,
    /// How many hosts there are for each action.
    pub counts: BTreeMap<Action, usize>,
    /// The plans by the names of the hosts.
    pub hosts: BTreeMap<String, HostPlan>,
    /// What several hosts claim.
    pub conflicts: Vec<Conflict>,
    /// What nodes and storages have after the run.
    #[serde(flatten)]
    pub after: After,
    /// The hosts that the play fails for, and why.
    pub failed_hosts: BTreeMap<String, String>,
}

impl Report {
    /// Put the plans of all hosts together. `results` are what their tasks returned.
    pub fn of(results: &BTreeMap<String, Value>, fail_on: FailOn) -> Self {
        let mut hosts: BTreeMap<String, HostPlan> = results
            .iter()
            .map(|(host, result)| (host.clone(), host_plan(result)))
            .collect();
        let conflicts = conflicts::find(&hosts);
        for conflict in &conflicts {
            for host in &conflict.hosts {
                let others = conflict.hosts.iter().filter(|other| *other != host);
                let others: Vec<&str> = others.map(String::as_str).collect();
                if let Some(plan) = hosts.get_mut(host) {
                    plan.action = Action::Refuse;
                    plan.mistakes.push(format!(
                        "{}: {} is also claimed by host {}",
                        conflict.variable,
                        conflict.what,
                        others.join(", ")
                    ));
                }
            }
        }
        let after = capacity::after(&hosts);
        for plan in hosts.values_mut() {
            // Both are above, for all hosts together.
            plan.claims.clear();
            plan.capacity = Default::default();
        }
        let mut counts = BTreeMap::new();
        for plan in hosts.values() {
            *counts.entry(plan.action).or_insert(0) += 1;
        }
        let failed_hosts = hosts
            .iter()
            .filter_map(|(host, plan)| Some((host.clone(), refusal(plan, fail_on)?)))
            .collect();
        Self {
            summary: text::summary(hosts.len(), &counts),
            counts,
            hosts,
            conflicts,
            after,
            failed_hosts,
        }
    }

    /// Whether a run would do anything, or would be refused.
    pub fn differs(&self) -> bool {
        self.hosts.values().any(|plan| plan.action != Action::None)
    }
}

/// The plan in what a host's task returned, or what kept it from making one.
fn host_plan(result: &Value) -> HostPlan {
    if let Some(plan) = result
        .get("plan")
        .filter(|plan| plan.get("action").is_some())
    {
        match serde_json::from_value(plan.clone()) {
            Ok(plan) => return plan,
            Err(error) => {
                return refused(vec![format!(
                    "its plan cannot be read: {error}; install all modules from one release"
                )]);
            }
        }
    }
    let texts = |list: &Vec<Value>| {
        list.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let list = |key: &str| result.get(key).and_then(Value::as_array).map(texts);
    let mistakes = match (list("mistakes"), result.get("msg").and_then(Value::as_str)) {
        (Some(mistakes), _) if !mistakes.is_empty() => mistakes,
        (_, Some(msg)) => vec![msg.to_owned()],
        _ => vec!["has no plan: its task returned no result; see its error above".to_owned()],
    };
    let claims = result.get("claims").cloned();
    HostPlan {
        claims: claims
            .and_then(|claims| serde_json::from_value(claims).ok())
            .unwrap_or_default(),
        commands: list("commands").unwrap_or_default(),
        ..refused(mistakes)
    }
}

fn refused(mistakes: Vec<String>) -> HostPlan {
    HostPlan {
        action: Action::Refuse,
        mistakes,
        ..HostPlan::default()
    }
}

/// Why the play fails for a host.
fn refusal(plan: &HostPlan, fail_on: FailOn) -> Option<String> {
    match (fail_on, plan.action) {
        (FailOn::Never, _) | (_, Action::None) => None,
        (_, Action::Refuse) => Some(plan.mistakes.join("\n")),
        (FailOn::Changes, _) => Some(format!("{} (nixos_vm_plan_fail_on: changes)", plan.msg)),
        (FailOn::Refusals, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host_plan::Claim;

    fn plan(action: Action, claims: &[&str]) -> Value {
        let claim = |what: &&str| Claim {
            host: String::new(),
            what: (*what).to_owned(),
            key: (*what).to_owned(),
            variable: "nixos_vm_ip".into(),
        };
        let plan = HostPlan {
            action,
            msg: "would change cores".into(),
            claims: claims.iter().map(claim).collect(),
            ..HostPlan::default()
        };
        json!({"plan": plan, "msg": "not shown"})
    }

    fn report(results: &[(&str, Value)], fail_on: FailOn) -> Report {
        let results = results.iter().cloned();
        Report::of(
            &results
                .map(|(host, result)| (host.to_owned(), result))
                .collect(),
            fail_on,
        )
    }

    #[test]
    fn whatever_a_task_returned_is_a_plan() {
        let results = [
            ("a", plan(Action::None, &[])),
            (
                "b",
                json!({"msg": "nixos_vm_ip: x", "mistakes": ["nixos_vm_ip: x", "nixos_vm_net: y"], "commands": ["pveum"]}),
            ),
            ("c", json!({"msg": "MODULE FAILURE", "mistakes": []})),
            ("d", json!({"plan": {}})),
            ("e", json!({"plan": {"action": "dance"}})),
        ];
        let report = report(&results, FailOn::Refusals);
        assert_eq!(
            report.summary,
            "1 of 5 hosts is unchanged; 4 would be refused"
        );
        assert_eq!(report.failed_hosts["b"], "nixos_vm_ip: x\nnixos_vm_net: y");
        assert_eq!(report.hosts["b"].commands, ["pveum"]);
        assert_eq!(report.failed_hosts["c"], "MODULE FAILURE");
        assert!(report.failed_hosts["d"].starts_with("has no plan"));
        assert!(report.failed_hosts["e"].starts_with("its plan cannot be read"));
        assert!(!report.failed_hosts.contains_key("a"));
    }

    #[test]
    fn both_sides_of_a_conflict_are_refused() {
        let (one, two) = (
            plan(Action::Create, &["the address x"]),
            plan(Action::None, &["the address x"]),
        );
        let report = report(&[("a", one), ("b", two)], FailOn::Refusals);
        assert_eq!(
            report.failed_hosts["a"],
            "nixos_vm_ip: the address x is also claimed by host b"
        );
        assert_eq!(
            report.failed_hosts["b"],
            "nixos_vm_ip: the address x is also claimed by host a"
        );
        assert!(report.differs());
    }

    #[test]
    fn what_fails_the_play_is_chosen() {
        let results = [
            ("a", plan(Action::Change, &[])),
            ("b", plan(Action::None, &[])),
            ("c", json!({"msg": "no"})),
        ];
        let refused = |fail_on| {
            let refused = report(&results, fail_on).failed_hosts;
            refused.into_keys().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(refused(FailOn::Never), "");
        assert_eq!(refused(FailOn::Refusals), "c");
        assert_eq!(refused(FailOn::Changes), "a c");
    }
}
