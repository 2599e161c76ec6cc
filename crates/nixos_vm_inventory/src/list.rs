//! The VMs in PVE's list of the cluster's guests.

use ansible_module::printable;
use serde_json::Value;

use crate::options::Options;

/// The most characters that are taken over of a text of PVE's or a guest's.
const LONGEST_TEXT: usize = 8192;

/// The most tags that are taken over of one VM.
const MOST_TAGS: usize = 100;

/// A VM as the list has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vm {
    /// Its number.
    pub vmid: u32,
    /// Its name, which may be empty: a new VM has none for some seconds.
    pub name: String,
    /// The node that it is on.
    pub node: String,
    /// `running`, `stopped`, or `unknown` if its node does not answer.
    pub status: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its resource pool.
    pub pool: Option<String>,
    /// The lock that it is under.
    pub lock: Option<String>,
    /// Its state in high availability.
    pub hastate: Option<String>,
    /// Whether it is a template.
    pub template: bool,
}

/// The VMs among the entries of `cluster/resources`, by their numbers. Containers are left out, and so is what has no valid VMID and node:
/// the second number says how many entries that are.
pub fn parse(entries: &[Value]) -> (Vec<Vm>, usize) {
    let is_vm = |entry: &&Value| entry.get("type").and_then(Value::as_str) == Some("qemu");
    let parsed: Vec<Option<Vm>> = entries.iter().filter(is_vm).map(vm).collect();
    let all = parsed.len();
    let mut vms: Vec<Vm> = parsed.into_iter().flatten().collect();
    vms.sort_by_key(|vm| vm.vmid);
    // PVE's list has each VMID once.
    vms.dedup_by_key(|vm| vm.vmid);
    let invalid = all - vms.len();
    (vms, invalid)
}

fn vm(entry: &Value) -> Option<Vm> {
    let some = |key: &str| Some(line(entry.get(key)?.as_str()?)).filter(|text| !text.is_empty());
    let node = some("node").filter(|node| is_node(node))?;
    let tags = some("tags").unwrap_or_default();
    Some(Vm {
        vmid: u32::try_from(number(entry.get("vmid")?)?).ok()?,
        name: some("name").unwrap_or_default(),
        node,
        status: some("status").unwrap_or_else(|| "unknown".into()),
        tags: split_tags(&tags),
        pool: some("pool"),
        lock: some("lock"),
        hastate: some("hastate"),
        template: entry.get("template").and_then(number).unwrap_or(0) != 0,
    })
}

/// A text of PVE's or a guest's without what controls a terminal, and not longer than is reasonable.
pub fn text(text: &str) -> String {
    let short: String = text.chars().take(LONGEST_TEXT).collect();
    printable(&short).into_owned()
}

/// A text that is one line.
pub fn line(value: &str) -> String {
    text(value).replace(['\n', '\t'], " ")
}

/// A number that PVE may send as a string.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_u64(),
    }
}

/// PVE separates tags with `;` and accepts `,` and blanks.
fn split_tags(text: &str) -> Vec<String> {
    let tags = text.split([';', ',', ' ']).filter(|tag| !tag.is_empty());
    tags.take(MOST_TAGS).map(str::to_owned).collect()
}

/// Whether it is the name of a node: it becomes a part of paths of the API.
fn is_node(text: &str) -> bool {
    text.len() <= 63 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Whether the options ask for this VM.
pub fn is_wanted(vm: &Vm, options: &Options) -> bool {
    let any = |wanted: &[String], has: &dyn Fn(&String) -> bool| {
        wanted.is_empty() || wanted.iter().any(has)
    };
    // PVE compares nodes, pools and tags with their case.
    (options.want_templates || !vm.template)
        && any(&options.nodes, &|node| *node == vm.node)
        && any(&options.pools, &|pool| Some(pool) == vm.pool.as_ref())
        && any(&options.tags, &|tag| vm.tags.contains(tag))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_a_vm_is_left_out() {
        let entries = json!([
            {"type": "qemu", "vmid": 102, "name": "db1", "node": "pve1", "status": "running", "tags": "a;b", "pool": "p", "template": 0},
            {"type": "qemu", "vmid": "101", "node": "pve2", "template": "1"},
            {"type": "lxc", "vmid": 103, "name": "ct", "node": "pve1"},
            {"type": "node", "node": "pve1"},
            {"type": "qemu", "vmid": 102, "name": "twice", "node": "pve1"},
            {"type": "qemu", "vmid": 104, "name": "x", "node": "../../access"},
            {"type": "qemu", "vmid": -1, "node": "pve1"},
            {"type": "qemu", "name": "no-number", "node": "pve1"},
            "nonsense",
        ]);
        let (vms, invalid) = parse(entries.as_array().unwrap());
        assert_eq!(invalid, 4);
        let [first, second] = &vms[..] else {
            panic!("{vms:?}")
        };
        assert_eq!(
            (first.vmid, first.template, &*first.status),
            (101, true, "unknown")
        );
        assert_eq!(
            *second,
            Vm {
                vmid: 102,
                name: "db1".into(),
                node: "pve1".into(),
                status: "running".into(),
                tags: vec!["a".into(), "b".into()],
                pool: Some("p".into()),
                ..Vm::default()
            }
        );
    }

    #[test]
    fn texts_are_bounded_and_harmless() {
        assert_eq!(text("a\x1b]0;title\x07b"), "a\\x1b]0;title\\x07b");
        assert_eq!(text(&"x".repeat(100_000)).len(), LONGEST_TEXT);
        assert_eq!(split_tags(&"t;".repeat(1000)).len(), MOST_TAGS);
    }

    #[test]
    fn filters_are_alternatives_each_and_conditions_together() {
        let vm = Vm {
            node: "pve1".into(),
            tags: vec!["web".into(), "prod".into()],
            pool: Some("p1".into()),
            ..Vm::default()
        };
        for (filter, wanted) in [
            (json!({}), true),
            (json!({"nodes": ["pve2", "pve1"]}), true),
            (json!({"nodes": ["PVE1"]}), false),
            (json!({"tags": ["db", "prod"]}), true),
            (json!({"tags": ["db"]}), false),
            (json!({"pools": ["p1"], "tags": ["web"]}), true),
            (json!({"pools": ["p2"], "tags": ["web"]}), false),
        ] {
            assert_eq!(
                is_wanted(&vm, &crate::options::given(filter.clone())),
                wanted,
                "{filter}"
            );
        }
        let template = Vm {
            template: true,
            ..vm.clone()
        };
        assert!(!is_wanted(&template, &crate::options::given(json!({}))));
        assert!(is_wanted(
            &template,
            &crate::options::given(json!({"want_templates": true}))
        ));
        let none = Vm { pool: None, ..vm };
        assert!(!is_wanted(
            &none,
            &crate::options::given(json!({"pools": ["p1"]}))
        ));
    }
}
