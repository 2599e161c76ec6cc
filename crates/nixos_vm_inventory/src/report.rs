//! Hosts with their variables and groups.

use serde_json::{Map, Value, json};

use crate::details::Details;
use crate::facts::{self, identifier, name};
use crate::list::Vm;
use crate::options::Options;
use crate::{address, known_hosts};

/// The groups that there are even if no host is in them.
pub fn usual_groups(options: &Options) -> Vec<String> {
    let mut names = vec!["all_qemu", "all_running", "all_stopped"];
    if options.want_templates {
        names.push("all_templates");
    }
    if options.qemu_extended_statuses {
        names.extend(["all_paused", "all_prelaunch"]);
    }
    names.into_iter().map(|name| group(options, name)).collect()
}

/// A host: `{name, vars, groups}`.
pub fn host(options: &Options, host: &str, vm: &Vm, details: &Details) -> Value {
    let config = details.config.as_ref();
    let record = config.and_then(|config| facts::record(vm, config));
    let phase = record.as_ref().map(|record| record.phase.name());
    let mut vars = Map::new();
    if let Some(config) = config.filter(|_| options.want_facts) {
        vars.extend(facts::of_config(options, config));
    }
    // After the options of the configuration, which must not replace them.
    let own = [
        ("vmid", Some(json!(vm.vmid))),
        ("name", Some(json!(vm.name))),
        ("node", Some(json!(vm.node))),
        ("vmtype", Some(json!("qemu"))),
        ("status", Some(json!(vm.status))),
        ("template", Some(json!(vm.template))),
        (
            "tags",
            (!vm.tags.is_empty()).then(|| json!(vm.tags.join(";"))),
        ),
        ("tags_parsed", Some(json!(vm.tags))),
        ("pool", vm.pool.as_ref().map(|pool| json!(pool))),
        ("lock", vm.lock.as_ref().map(|lock| json!(lock))),
        ("hastate", vm.hastate.as_ref().map(|state| json!(state))),
        (
            "qmpstatus",
            details
                .qmpstatus
                .as_deref()
                .map(|status| json!(crate::list::line(status))),
        ),
        (
            "agent_interfaces",
            details
                .interfaces
                .as_ref()
                .map(|answer| json!(address::interfaces(answer))),
        ),
        ("phase", phase.map(|phase| json!(phase))),
    ];
    for (key, value) in own {
        let key = name(options, key);
        match value {
            Some(value) => vars.insert(key, value),
            None => vars.remove(&key),
        };
    }
    if !details.failed.is_empty() {
        let texts: Vec<&str> = details.failed.iter().map(|failed| &*failed.text).collect();
        vars.insert(name(options, "fact_gathering_failed"), json!(true));
        vars.insert(
            name(options, "fact_gathering_error"),
            json!(texts.join("; ")),
        );
    }
    if let Some(address) = address::of(options, config, details.interfaces.as_ref()) {
        vars.insert("ansible_host".into(), json!(address.to_string()));
    }
    // By the VM's name, whatever its host is called here: who gives another VM that name does not turn the check off. The record has
    // the role's name of the host, which differs where nixos_vm_name is set.
    let recorded = record.as_ref().map(|record| &*record.host);
    let arguments = known_hosts::ssh_arguments(options, &vm.name)
        .or_else(|| known_hosts::ssh_arguments(options, recorded?));
    if let Some(arguments) = arguments {
        vars.insert("ansible_ssh_common_args".into(), json!(arguments));
    }
    json!({"name": host, "vars": vars, "groups": groups(options, vm, details, phase)})
}

fn groups(options: &Options, vm: &Vm, details: &Details, phase: Option<&str>) -> Vec<String> {
    if vm.template {
        return vec![group(options, "all_templates")];
    }
    let status = details.qmpstatus.as_deref().unwrap_or(&vm.status);
    let mut names = vec![
        "all_qemu".to_owned(),
        format!("all_{status}"),
        format!("{}_qemu", vm.node),
    ];
    names.extend(vm.pool.iter().map(|pool| format!("pool_{pool}")));
    names.extend(vm.tags.iter().map(|tag| format!("tag_{tag}")));
    names.extend(phase.map(|phase| format!("phase_{phase}")));
    let mut names: Vec<String> = names.iter().map(|name| group(options, name)).collect();
    names.sort();
    names.dedup();
    names
}

fn group(options: &Options, name: &str) -> String {
    format!("{}{}", options.group_prefix, identifier(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::details::Config;

    fn vm() -> Vm {
        Vm {
            vmid: 101,
            name: "web1".into(),
            node: "pve-1".into(),
            status: "running".into(),
            tags: vec!["Web".into(), "web".into(), "a.b".into()],
            pool: Some("Prod/x".into()),
            ..Vm::default()
        }
    }

    #[test]
    fn a_host_has_its_groups_and_variables() {
        let options = crate::options::given(json!({"known_hosts": false}));
        assert_eq!(
            host(&options, "web1", &vm(), &Details::default()),
            json!({
                "name": "web1",
                "vars": {
                    "proxmox_vmid": 101, "proxmox_name": "web1", "proxmox_node": "pve-1", "proxmox_vmtype": "qemu",
                    "proxmox_status": "running", "proxmox_template": false, "proxmox_tags": "Web;web;a.b",
                    "proxmox_tags_parsed": ["Web", "web", "a.b"], "proxmox_pool": "Prod/x",
                },
                "groups": ["proxmox_all_qemu", "proxmox_all_running", "proxmox_pool_prod_x", "proxmox_pve_1_qemu", "proxmox_tag_a_b", "proxmox_tag_web"],
            })
        );
        let paused = Details {
            qmpstatus: Some("paused".into()),
            ..Details::default()
        };
        let shown = host(&options, "web1", &vm(), &paused);
        assert!(
            shown["groups"]
                .as_array()
                .unwrap()
                .contains(&json!("proxmox_all_paused")),
            "{shown}"
        );
        let template = Vm {
            template: true,
            ..vm()
        };
        assert_eq!(
            host(&options, "web1", &template, &Details::default())["groups"],
            json!(["proxmox_all_templates"])
        );
    }

    #[test]
    fn the_configuration_stands_for_nothing_else() {
        let options = crate::options::given(json!({"known_hosts": false, "want_facts": true}));
        let config = json!({"vmid": 1, "status": "x", "phase": "done", "node": "y", "tags": "forged", "pool": "forged", "cores": 2});
        let details = Details {
            config: Some(Config(config.as_object().unwrap().clone())),
            ..Details::default()
        };
        let bare = Vm {
            tags: Vec::new(),
            pool: None,
            ..vm()
        };
        let shown = host(&options, "web1", &bare, &details);
        assert_eq!(
            shown["vars"],
            json!({
                "proxmox_vmid": 101, "proxmox_name": "web1", "proxmox_node": "pve-1", "proxmox_vmtype": "qemu", "proxmox_status": "running",
                "proxmox_template": false, "proxmox_tags_parsed": [], "proxmox_cores": 2,
            })
        );
    }
}
