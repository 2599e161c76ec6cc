//! The option `ha`, and what is wrong with it.

use pve_schema::syntax;

use crate::desired::from_options::Builder;
use crate::options::{Ha, HaState, Options, State};

/// The longest comment that PVE takes, in characters.
const COMMENT: usize = 4096;
/// The highest priority of a node (PVE::HA::Tools, format `pve-ha-node`).
const PRIORITY: u32 = 1000;

impl Builder {
    pub(super) fn ha(&mut self, options: &Options) {
        let Some(ha) = &options.ha else {
            return;
        };
        let wrong = mistakes(ha).into_iter().chain(contradiction(ha, options));
        self.mistakes
            .extend(wrong.map(|mistake| format!("ha{mistake}")));
        let mut ha = ha.clone();
        // PVE's lists do not know the name of a VM that was made a moment ago.
        let is_own = |text: &String| {
            let name = options.name.as_ref();
            name.is_some_and(|name| name.eq_ignore_ascii_case(text))
        };
        for others in ha.resources.iter_mut() {
            others.retain(|text| !is_own(text));
        }
        self.desired.ha = Some(ha);
    }
}

/// Mistakes that the option has by itself, without the `ha` that each begins with.
fn mistakes(ha: &Ha) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (key, name, removes) in [("group", &ha.group, true), ("rule", &ha.rule, false)] {
        if let Some(name) = name
            && !syntax::is_mapping(name)
            && !(removes && name.is_empty())
        {
            mistakes.push(format!(
                ".{key}: must begin with a letter and go on with at least one letter, digit, - or _ (got '{name}')"
            ));
        }
    }
    if ha.group.as_deref().is_some_and(|group| !group.is_empty()) && ha.rule.is_some() {
        mistakes.push(
            ": give either group, which Proxmox VE 8 has, or rule, which Proxmox VE 9 has".into(),
        );
    }
    let of_nodes = [
        ("nodes", ha.nodes.is_some()),
        ("strict", ha.strict.is_some()),
    ];
    let of_vms = [
        ("affinity", ha.affinity.is_some()),
        ("resources", ha.resources.is_some()),
    ];
    let given = |keys: &[(&'static str, bool)]| keys.iter().find(|key| key.1).map(|key| key.0);
    if let Some(key) = given(&of_nodes)
        .or(given(&of_vms))
        .filter(|_| ha.rule.is_none())
    {
        mistakes.push(format!(
            ".{key}: is a part of a rule; name the rule with rule"
        ));
    }
    if let (Some(one), Some(other)) = (given(&of_nodes), given(&of_vms)) {
        mistakes.push(format!(
            ": a rule is on nodes ({one}) or on VMs ({other}), not both; leave one out"
        ));
    }
    if ha.resources.is_some() && ha.affinity.is_none() {
        mistakes.push(".resources: requires affinity, positive or negative".into());
    }
    for (key, list) in [("nodes", &ha.nodes), ("resources", &ha.resources)] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            mistakes.push(format!(".{key}: must not be empty; leave it out"));
        }
    }
    let odd = |node: &&String| !is_node(node);
    for node in ha.nodes.iter().flatten().filter(odd) {
        mistakes.push(format!(
            ".nodes: must be a node, or NODE:PRIORITY with a priority from 0 to {PRIORITY} (got '{node}')"
        ));
    }
    let long = ha.comment.as_ref().map_or(0, |text| text.chars().count());
    if long > COMMENT {
        mistakes.push(format!(
            ".comment: must have at most {COMMENT} characters (got {long})"
        ));
    }
    mistakes
}

/// What HA would do against the state that the task leaves the VM in.
fn contradiction(ha: &Ha, options: &Options) -> Option<String> {
    let runs = match options.state {
        State::Started | State::Restarted => true,
        State::Stopped | State::Template => false,
        State::Present | State::Absent | State::Current => return None,
    };
    let (state, would) = match ha.state? {
        HaState::Started if !runs => ("started", "start"),
        HaState::Stopped if runs => ("stopped", "stop"),
        HaState::Disabled if runs => ("disabled", "stop"),
        _ => return None,
    };
    let target = serde_json::to_value(options.state).unwrap_or_default();
    let target = target.as_str().unwrap_or_default().to_owned();
    Some(format!(
        ".state: {state} would {would} the VM, against state: {target}; change one of the two"
    ))
}

fn is_node(text: &str) -> bool {
    let (name, priority) = match text.split_once(':') {
        Some((name, priority)) => (name, Some(priority)),
        None => (text, None),
    };
    let fits = |text: &str| {
        syntax::is_index(text) && text.parse::<u32>().is_ok_and(|value| value <= PRIORITY)
    };
    syntax::is_dns_name(name) && !name.contains('.') && priority.is_none_or(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::desired::from_json;

    fn refused(ha: Value) -> String {
        from_json(json!({"name": "web1", "ha": ha})).unwrap_err()
    }

    #[test]
    fn mistakes_are_named_all_at_once() {
        let error = refused(json!({
            "group": "g 1", "rule": "", "nodes": ["a:1001", "b_c"], "affinity": "negative", "resources": [],
            "comment": "x".repeat(4097),
        }));
        for part in [
            "ha.group: must begin with a letter",
            "ha.rule: must begin with a letter",
            "ha: give either group, which Proxmox VE 8 has, or rule",
            "ha: a rule is on nodes (nodes) or on VMs (affinity), not both",
            "ha.resources: must not be empty",
            "(got 'a:1001')",
            "(got 'b_c')",
            "ha.comment: must have at most 4096 characters (got 4097)",
        ] {
            assert!(error.contains(part), "{part} in: {error}");
        }
        assert_eq!(
            refused(json!({"strict": true})),
            "ha.strict: is a part of a rule; name the rule with rule"
        );
        assert_eq!(
            refused(json!({"rule": "r1", "resources": ["web2"]})),
            "ha.resources: requires affinity, positive or negative"
        );
        let fine = json!({"rule": "r1", "nodes": ["pve1:2", "pve2"], "strict": true, "group": ""});
        from_json(json!({"name": "web1", "ha": fine})).unwrap();
    }

    #[test]
    fn ha_does_not_work_against_the_state() {
        for (state, ha, refused) in [
            ("started", "started", false),
            ("started", "stopped", true),
            ("restarted", "disabled", true),
            ("started", "ignored", false),
            ("stopped", "started", true),
            ("stopped", "stopped", false),
            ("template", "started", true),
            ("present", "started", false),
            ("present", "stopped", false),
            ("absent", "started", false),
        ] {
            let options = json!({"name": "web1", "state": state, "ha": {"state": ha}});
            assert_eq!(from_json(options).is_err(), refused, "{state} {ha}");
        }
        let options = json!({"name": "web1", "state": "stopped", "ha": {"state": "started"}});
        assert_eq!(
            from_json(options).unwrap_err(),
            "ha.state: started would start the VM, against state: stopped; change one of the two"
        );
    }
}
