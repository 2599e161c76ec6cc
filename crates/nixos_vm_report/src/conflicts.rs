//! What several hosts of the play claim, so that no run of them goes through.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host_plan::{Claim, HostPlan};

/// Something that several hosts claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// For people: `the VM name web1`.
    pub what: String,
    /// The variable that distinguishes them.
    pub variable: String,
    /// The hosts.
    pub hosts: Vec<String>,
}

/// Everything that more than one host claims.
pub fn find(plans: &BTreeMap<String, HostPlan>) -> Vec<Conflict> {
    let mut claimed: BTreeMap<&str, (&Claim, Vec<String>)> = BTreeMap::new();
    for (host, plan) in plans {
        for claim in &plan.claims {
            let (_, hosts) = claimed
                .entry(&claim.key)
                .or_insert_with(|| (claim, Vec::new()));
            // A machine's own address may be claimed twice, by two variables.
            if hosts.last() != Some(host) {
                hosts.push(host.clone());
            }
        }
    }
    let several = claimed.into_values().filter(|(_, hosts)| hosts.len() > 1);
    several
        .map(|(claim, hosts)| Conflict {
            what: claim.what.clone(),
            variable: claim.variable.clone(),
            hosts,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_two_hosts_claim_is_a_conflict() {
        let claim = |key: &str| Claim {
            host: String::new(),
            what: format!("the {key}"),
            key: key.into(),
            variable: "nixos_vm_ip".into(),
        };
        let plan = |keys: &[&str]| HostPlan {
            claims: keys.iter().map(|key| claim(key)).collect(),
            ..HostPlan::default()
        };
        let plans = BTreeMap::from([
            ("a".to_owned(), plan(&["x", "x", "y"])),
            ("b".to_owned(), plan(&["y", "z"])),
        ]);
        let expected = Conflict {
            what: "the y".into(),
            variable: "nixos_vm_ip".into(),
            hosts: vec!["a".into(), "b".into()],
        };
        assert_eq!(find(&plans), [expected]);
    }
}
