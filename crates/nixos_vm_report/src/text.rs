//! The report as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use ansible_module::printable;
use serde_json::Value;

use crate::capacity::{NodeAfter, StorageAfter};
use crate::host_plan::{Action, HostPlan, System};
use crate::report::Report;
use crate::size::{bytes, signed};

/// The words for hosts with each action, for one and for several.
const WORDS: [(Action, &str, &str); 6] = [
    (Action::Create, "is to be created", "are to be created"),
    (Action::Resume, "is to be resumed", "are to be resumed"),
    (
        Action::Reinstall,
        "is to be reinstalled",
        "are to be reinstalled",
    ),
    (Action::Change, "is to be changed", "are to be changed"),
    (Action::None, "is unchanged", "are unchanged"),
    (Action::Refuse, "would be refused", "would be refused"),
];

/// How far a system may fill its disk before this is pointed out, in percent.
const FULL: u64 = 90;

/// One sentence about all hosts.
pub fn summary(hosts: usize, counts: &BTreeMap<Action, usize>) -> String {
    let mut parts = WORDS.iter().filter_map(|(action, one, several)| {
        let count = *counts.get(action)?;
        Some((count, if count == 1 { *one } else { *several }))
    });
    let plural = if hosts == 1 { "host" } else { "hosts" };
    let Some((count, words)) = parts.next() else {
        return "no hosts".to_owned();
    };
    let mut text = format!("{count} of {hosts} {plural} {words}");
    for (count, words) in parts {
        let _ = write!(text, "; {count} {words}");
    }
    text
}

/// The report, for people.
pub fn render(report: &Report) -> String {
    let mut lines = vec![report.summary.clone()];
    let (same, differ): (Vec<_>, Vec<_>) = report
        .hosts
        .iter()
        .partition(|(_, plan)| plan.action == Action::None);
    for (host, plan) in differ {
        lines.push(String::new());
        host_lines(&mut lines, host, plan, report.after.placed.get(host));
    }
    if !same.is_empty() {
        let hosts: Vec<&str> = same.into_iter().map(|(host, _)| host.as_str()).collect();
        lines.extend([String::new(), format!("Unchanged: {}", hosts.join(", "))]);
    }
    let (nodes, storages) = (&report.after.nodes, &report.after.storages);
    let apis = nodes.iter().map(|node| &node.api);
    let apis = apis.chain(storages.iter().map(|storage| &storage.api));
    let several = apis.collect::<BTreeSet<_>>().len() > 1;
    section(
        &mut lines,
        "Nodes after the run",
        nodes.iter().map(|node| node_line(node, several)),
    );
    section(
        &mut lines,
        "Storages after the run, with new disks full",
        storages
            .iter()
            .map(|storage| storage_line(storage, several)),
    );
    section(
        &mut lines,
        "Warnings",
        report
            .after
            .warnings
            .iter()
            .map(|warning| format!("! {warning}")),
    );
    let lines: Vec<String> = lines
        .iter()
        .map(|line| printable(line).into_owned())
        .collect();
    lines.join("\n") + "\n"
}

fn section(lines: &mut Vec<String>, title: &str, content: impl Iterator<Item = String>) {
    let mut content = content.peekable();
    if content.peek().is_some() {
        lines.extend([String::new(), title.to_owned()]);
        lines.extend(content.map(|line| format!("  {line}")));
    }
}

fn host_lines(lines: &mut Vec<String>, host: &str, plan: &HostPlan, placed: Option<&String>) {
    match plan.action {
        Action::Refuse => lines.push(format!("{host}: would be refused")),
        _ => lines.push(format!("{host}: {}", plan.msg)),
    }
    for mistake in &plan.mistakes {
        // A text of several lines stays together.
        lines.push(format!("  ! {}", mistake.replace('\n', "\n    ")));
    }
    // What begins with `#` is a comment of the shell.
    let prompt = |command: &str| if command.starts_with('#') { "" } else { "$ " };
    let commands = plan.commands.iter();
    lines.extend(commands.map(|command| format!("  {}{command}", prompt(command))));
    for (key, (before, after)) in &plan.changes {
        lines.push(match (before, after) {
            (Value::Null, after) => format!("  + {key}: {}", value(after)),
            (before, Value::Null) => format!("  - {key}: {}", value(before)),
            (before, after) => format!("  ~ {key}: {} -> {}", value(before), value(after)),
        });
    }
    if let Some(node) = placed {
        lines.push(format!(
            "  node: {node} (an estimate: the run chooses the node when it makes the VM)"
        ));
    }
    if !plan.due.is_empty() {
        lines.push(format!("  steps: {}", plan.due.join(", ")));
    }
    lines.extend(plan.system.as_ref().and_then(system_line));
}

/// How large the system is; nothing while that is not known.
fn system_line(system: &System) -> Option<String> {
    let size = system.bytes?;
    let Some(disk) = system.disk else {
        return Some(format!("  system: {}", bytes(signed(size))));
    };
    let full = size.saturating_mul(100) / disk.max(1) >= FULL;
    Some(format!(
        "  {}system: {} of the boot disk's {}",
        if full { "! " } else { "" },
        bytes(signed(size)),
        bytes(signed(disk))
    ))
}

fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim_end().replace('\n', "\\n"),
        other => other.to_string(),
    }
}

fn node_line(node: &NodeAfter, several: bool) -> String {
    let (now, name) = (&node.now, &node.node);
    let at = if several {
        format!(" ({})", node.api)
    } else {
        String::new()
    };
    if now.memory == 0 {
        return format!("{name}{at}: its memory is not shown without Sys.Audit on /nodes/{name}");
    }
    format!(
        "{name}{at}: guests may take {} of {} of memory ({} now, {} in use) and {} of {} CPUs ({} now)",
        bytes(node.given_after),
        bytes(signed(now.memory)),
        bytes(signed(now.given)),
        bytes(signed(now.used)),
        node.cpus_given_after,
        now.cpus,
        now.cpus_given,
    )
}

fn storage_line(storage: &StorageAfter, several: bool) -> String {
    let on = storage.node.as_ref();
    let on = on.map_or_else(String::new, |node| format!(" on {node}"));
    let at = if several {
        format!(" ({})", storage.api)
    } else {
        String::new()
    };
    format!(
        "{}{on}{at}: at most {} of {} ({} now)",
        storage.storage,
        bytes(storage.used_after),
        bytes(signed(storage.size)),
        bytes(signed(storage.used)),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::host_plan::{Capacity, Demand, Node, Storage};
    use crate::options::FailOn;

    const GIB: u64 = 1 << 30;

    /// Hosts of each kind.
    pub(crate) fn example() -> Report {
        let plan = HostPlan {
            action: Action::Create,
            msg: "would create VM web1 and install it".into(),
            due: ["image", "upload"].map(str::to_owned).into(),
            candidates: BTreeMap::from([("pve1".into(), 0)]),
            changes: BTreeMap::from([
                ("cores".into(), (Value::Null, json!(2))),
                ("scsi0".into(), (Value::Null, json!("local-zfs:32"))),
            ]),
            system: Some(System {
                path: None,
                bytes: Some(2 * GIB),
                disk: Some(32 * GIB),
            }),
            demand: Demand {
                memory: signed(4 * GIB),
                cpus: 2,
                storages: BTreeMap::from([("local-zfs".into(), signed(32 * GIB))]),
            },
            capacity: Capacity {
                nodes: BTreeMap::from([(
                    "pve1".into(),
                    Node {
                        memory: 64 * GIB,
                        used: 20 * GIB,
                        given: 62 * GIB,
                        cpus: 16,
                        cpus_given: 20,
                        ..Node::default()
                    },
                )]),
                storages: vec![Storage {
                    name: "local-zfs".into(),
                    node: Some("pve1".into()),
                    size: 500 * GIB,
                    used: 120 * GIB,
                }],
            },
            ..HostPlan::default()
        };
        let change = HostPlan {
            action: Action::Change,
            msg: "would change VM 102 (web2): memory, tags".into(),
            changes: BTreeMap::from([
                ("memory".into(), (json!(2048), json!(4096))),
                ("tags".into(), (json!("a\nb"), Value::Null)),
            ]),
            ..HostPlan::default()
        };
        let refused = HostPlan {
            action: Action::Refuse,
            mistakes: vec![
                "automation@pve lacks \u{1b}[31mprivileges".into(),
                "two\nlines".into(),
            ],
            commands: vec!["pveum role add NixosVm --privs VM.Audit".into()],
            ..HostPlan::default()
        };
        let same = HostPlan::default();
        let results = [
            ("web1", plan),
            ("web2", change),
            ("web3", same.clone()),
            ("web4", same),
            ("db1", refused),
        ];
        let results = results.map(|(host, plan)| (host.to_owned(), json!({"plan": plan})));
        Report::of(&results.into(), FailOn::Refusals)
    }

    #[test]
    fn a_report_is_readable() {
        insta::assert_snapshot!(render(&example()));
    }

    #[test]
    fn a_disk_that_is_too_small_is_pointed_out() {
        let line = |bytes, disk| {
            let path = None;
            system_line(&System { path, bytes, disk }).unwrap_or_default()
        };
        assert_eq!(
            line(Some(31 * GIB), Some(32 * GIB)),
            "  ! system: 31.0 GiB of the boot disk's 32.0 GiB"
        );
        assert_eq!(line(Some(GIB), None), "  system: 1.0 GiB");
        assert_eq!(line(None, Some(GIB)), "");
    }
}
