//! The privileges that later steps need, compared with those that the caller has.

use std::collections::{BTreeMap, BTreeSet};

use deadline::Deadline;
use pve_client::Client;
use pve_module::record::Phase;
use serde_json::{Map, Value};

use crate::module_args::high_availability;
use crate::options::Settings;

/// What a VM needs on `/vms` (or its pool) from its creation to its end.
const VM: [&str; 11] = [
    "VM.Allocate",
    "VM.Audit",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
];

/// What the caller lacks, in sentences. Nothing if its privileges cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// What a later step would fail for.
    pub needed: Option<String>,
    /// Commands for a node's shell that grant it.
    pub commands: Vec<String>,
    /// A warning: what errors cannot show without it.
    pub useful: Option<String>,
}

/// Compare what the caller may do with what the later steps do.
pub async fn missing(client: &Client, settings: &Settings, deadline: &Deadline) -> Missing {
    let answer = client.get("/access/permissions", &[], deadline).await;
    match answer.ok().as_ref().and_then(Value::as_object) {
        Some(permissions) => compared(permissions, client.caller(), settings),
        None => Missing::default(),
    }
}

/// A privilege that a later step needs.
struct Need {
    path: String,
    /// The privileges of which one is enough; the first is the one of today's Proxmox VE.
    any_of: Vec<&'static str>,
    /// For what.
    what: String,
    met: bool,
}

impl Need {
    fn text(&self) -> String {
        format!(
            "{} on {} ({})",
            self.any_of.join(" or "),
            self.path,
            self.what
        )
    }
}

fn compared(permissions: &Map<String, Value>, caller: &str, settings: &Settings) -> Missing {
    let mut needs: Vec<Need> = Vec::new();
    let vms = match (&settings.pool, settings.vmid) {
        (Some(pool), _) => format!("/pool/{pool}"),
        (None, Some(vmid)) => format!("/vms/{vmid}"),
        (None, None) => "/vms".into(),
    };
    let may = |path: &str, privilege: &str| {
        permits(permissions, path, privilege)
            || (path.starts_with("/pool/") && permits(permissions, "/vms", privilege))
    };
    let mut need = |path: &str, any_of: &[&'static str], what: &str| {
        needs.push(Need {
            path: path.to_owned(),
            any_of: any_of.to_vec(),
            what: what.to_owned(),
            met: any_of.iter().any(|privilege| may(path, privilege)),
        });
    };
    for privilege in VM {
        need(&vms, &[privilege], "to make and start the VM");
    }
    if settings.asks_for_address() {
        need(
            &vms,
            &["VM.GuestAgent.Audit", "VM.Monitor"],
            "nixos_vm_ip: an address that is not fixed is read by the guest agent",
        );
    }
    if high_availability(settings, false).is_some() {
        for privilege in ["Sys.Audit", "Sys.Console"] {
            need("/", &[privilege], "nixos_vm_vm_options: ha");
        }
    }
    let iso = format!("/storage/{}", settings.iso_storage);
    need(
        &iso,
        &["Datastore.Audit", "Datastore.AllocateSpace"],
        "nixos_vm_iso_storage: to see it",
    );
    need(
        &iso,
        &["Datastore.AllocateTemplate"],
        "nixos_vm_iso_storage: to upload the installer and the seed",
    );
    if settings.by_image() {
        need(
            &format!("/storage/{}", settings.disk_image_storage()),
            &["Datastore.AllocateTemplate"],
            "nixos_vm_disk_image_storage: to upload the disk image",
        );
        if settings.disk_image_template {
            need(&vms, &["VM.Clone"], "nixos_vm_disk_image_template");
        }
    }
    need(
        &iso,
        &["Datastore.Allocate"],
        "nixos_vm_iso_storage: to delete the seed",
    );
    if settings.scsi.is_none() && settings.virtio.is_none() && settings.sata.is_none() {
        let disks = format!("/storage/{}", settings.disks_storage);
        need(
            &disks,
            &["Datastore.AllocateSpace", "Datastore.Allocate"],
            "nixos_vm_disks_storage: to make the disk",
        );
    }
    needs.extend(networks(permissions, settings));
    let lacking = needs.iter().filter(|need| !need.met);
    let lacking: Vec<String> = lacking.map(Need::text).collect();
    let needed = (!lacking.is_empty()).then(|| {
        format!(
            "{caller} lacks privileges: {}; docs/privileges.md has the roles and the commands that grant them",
            lacking.join(", ")
        )
    });
    let console = settings.console && !may(&vms, "VM.Console");
    if settings.console {
        // Not needed, but lost with what is inherited.
        needs.push(Need {
            path: vms.clone(),
            any_of: vec!["VM.Console"],
            what: "nixos_vm_console".into(),
            met: true,
        });
    }
    let useful = console.then(|| {
        format!(
            "{caller} lacks VM.Console on {vms}, so an error cannot show the VM's serial console; grant it (docs/privileges.md), or set \
             nixos_vm_console: false"
        )
    });
    Missing {
        needed,
        commands: commands(permissions, caller, &needs),
        useful,
    }
}

/// The commands that grant what is missing. An entry on a path replaces what is inherited there, so each grants all that is needed on its
/// path and all that the caller has there (PVE::AccessControl). A token with privilege separation has what both it and its user have.
fn commands(permissions: &Map<String, Value>, caller: &str, needs: &[Need]) -> Vec<String> {
    // All VMs, rather than a VMID that has no entry of its own.
    let grant_path = |need: &Need| match need.path.starts_with("/vms/") {
        true if !permissions.contains_key(&need.path) => "/vms".to_owned(),
        _ => need.path.clone(),
    };
    let mut granted: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for need in needs.iter().filter(|need| !need.met) {
        granted.entry(grant_path(need)).or_default();
    }
    for need in needs {
        if let Some(privileges) = granted.get_mut(&grant_path(need)) {
            privileges.extend(need.any_of.first());
        }
    }
    let known = permissions.values().filter_map(Value::as_object);
    let known: BTreeSet<&str> = known.flat_map(Map::keys).map(String::as_str).collect();
    for (path, privileges) in &mut granted {
        privileges.extend(known.iter().filter(|name| permits(permissions, path, name)));
    }
    let user = caller.split('!').next().unwrap_or_default();
    let grant = |(path, privileges): (String, BTreeSet<&str>)| {
        let role = match path.as_str() {
            "/" => "Nixos-root".to_owned(),
            _ => format!("Nixos{}", path.replace('/', "-")),
        };
        // Only HA needs privileges on the root; they must not propagate to the nodes.
        let propagate = if path == "/" { " --propagate 0" } else { "" };
        let privileges: Vec<&str> = privileges.into_iter().collect();
        let privileges = privileges.join(" ");
        let acl = |whom: &str| format!("pveum acl modify {path} --roles {role} {whom}{propagate}");
        let role = format!(
            "pveum role add {role} --privs '{privileges}' || pveum role modify {role} --append 1 --privs '{privileges}'"
        );
        match user == caller {
            true => vec![role, acl(&format!("--users '{user}'"))],
            // An entry would take from the user what it inherits, which may be more.
            false => vec![
                role,
                acl(&format!("--tokens '{caller}'")),
                format!(
                    "# only if {user} lacks them, too: {}",
                    acl(&format!("--users '{user}'"))
                ),
            ],
        }
    };
    // Somebody may paste them into the shell of root: a name with other characters gets none.
    let is_plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "/@!._-".contains(c))
    };
    granted
        .into_iter()
        .filter(|(path, _)| is_plain(path) && is_plain(caller))
        .flat_map(grant)
        .collect()
}

/// The bridges and vnets that the caller may not use, by NIC. Which zone of SDN a vnet belongs to is not asked: the caller may use it in
/// any zone of which it has permissions. With VLAN tags only these count (`check_vnet_access` in PVE::GuestHelpers).
fn networks(permissions: &Map<String, Value>, settings: &Settings) -> Vec<Need> {
    let vm = settings.vm(Phase::Provisioning, None);
    let nics = vm.get("net").and_then(Value::as_object);
    let zones: BTreeSet<&str> = permissions
        .keys()
        .filter_map(|path| path.strip_prefix("/sdn/zones/")?.split('/').next())
        .chain(["localnetwork"])
        .collect();
    let mut lacking = Vec::new();
    for (nic, value) in nics.into_iter().flatten() {
        let Some((bridge, vlans)) = network_of(nic, value) else {
            continue;
        };
        let paths = match vlans.is_empty() {
            true => vec![bridge],
            false => vlans
                .iter()
                .map(|vlan| format!("{bridge}/{vlan}"))
                .collect(),
        };
        for path in paths {
            let may =
                |zone: &&str| permits(permissions, &format!("/sdn/zones/{zone}/{path}"), "SDN.Use");
            if !zones.iter().any(may) {
                lacking.push(Need {
                    path: format!("/sdn/zones/localnetwork/{path}"),
                    any_of: vec!["SDN.Use"],
                    what: format!("nixos_vm_net.{nic}"),
                    met: false,
                });
            }
        }
    }
    lacking
}

/// The bridge of a NIC and its VLANs; a range of trunks stands for its first one.
fn network_of(nic: &str, value: &Value) -> Option<(String, Vec<String>)> {
    let parts = proxmox_nixos_vm::nic_parts(nic, value)?;
    let vlans = ["tag", "trunks"].iter().filter_map(|key| parts.get(*key));
    let vlans = vlans
        .flat_map(|text| text.split(';'))
        .filter_map(|vlan| vlan.split('-').next());
    let vlans = vlans
        .filter(|vlan| !vlan.is_empty())
        .map(str::to_owned)
        .collect();
    Some((parts.get("bridge")?.clone(), vlans))
}

/// Whether the caller has a privilege on a path. The nearest path above that has permissions of its own counts, and only what
/// propagates from there (PVE::AccessControl).
fn permits(permissions: &Map<String, Value>, path: &str, privilege: &str) -> bool {
    let mut at = path;
    loop {
        if let Some(own) = permissions.get(at).and_then(Value::as_object) {
            return match own.get(privilege) {
                None => false,
                Some(_) if at == path => true,
                Some(propagates) => {
                    propagates.as_u64() == Some(1) || propagates.as_bool() == Some(true)
                }
            };
        }
        if at == "/" {
            return false;
        }
        at = match at.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((above, _)) => above,
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_console_that_cannot_be_read_is_no_mistake() {
        let compared = |privileges: &[&str], settings: Value| {
            let held: Map<String, Value> = privileges
                .iter()
                .map(|name| ((*name).to_owned(), 1.into()))
                .collect();
            let permissions = json!({"/": held});
            let permissions = permissions.as_object().unwrap();
            compared(permissions, "a@pve!t", &Settings::with(settings))
        };
        let others = [
            "Datastore.Allocate",
            "Datastore.AllocateTemplate",
            "Datastore.Audit",
            "SDN.Use",
        ];
        let all = [&VM[..], &others, &["VM.Console"]].concat();
        assert_eq!(compared(&all, json!({})), Missing::default());
        let without = &all[..all.len() - 1];
        let missing = compared(without, json!({"vmid": 101}));
        assert_eq!(missing.needed, None);
        assert_eq!(
            missing.useful.unwrap(),
            "a@pve!t lacks VM.Console on /vms/101, so an error cannot show the VM's serial console; grant it (docs/privileges.md), or set \
             nixos_vm_console: false"
        );
        assert_eq!(
            compared(without, json!({"console": false})),
            Missing::default()
        );
        assert!(
            compared(&[], json!({}))
                .needed
                .unwrap()
                .starts_with("a@pve!t lacks privileges: VM.Allocate on /vms")
        );
    }

    #[test]
    fn all_that_is_needed_on_a_path_is_granted_there() {
        let permissions = json!({
            "/": {"Sys.Audit": 1, "VM.Audit": 1}, "/vms": {"VM.Audit": 1, "VM.Snapshot": 1},
            "/storage/local": {"Datastore.AllocateTemplate": 1}, "/storage/local-lvm": {"Datastore.AllocateSpace": 1},
            "/sdn": {"SDN.Use": 1},
        });
        let settings = Settings::with(json!({"vmid": 101, "disks_storage": "local-lvm"}));
        let missing = compared(permissions.as_object().unwrap(), "a@pve!t", &settings);
        let vms = [&VM[..], &["VM.Console", "VM.PowerMgmt", "VM.Snapshot"]].concat();
        let vms = vms.into_iter().collect::<BTreeSet<_>>();
        let vms = vms.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            missing.commands,
            [
                "pveum role add Nixos-storage-local --privs 'Datastore.Allocate Datastore.AllocateTemplate Datastore.Audit' || pveum role modify \
                 Nixos-storage-local --append 1 --privs 'Datastore.Allocate Datastore.AllocateTemplate Datastore.Audit'",
                "pveum acl modify /storage/local --roles Nixos-storage-local --tokens 'a@pve!t'",
                "# only if a@pve lacks them, too: pveum acl modify /storage/local --roles Nixos-storage-local --users 'a@pve'",
                &format!(
                    "pveum role add Nixos-vms --privs '{vms}' || pveum role modify Nixos-vms --append 1 --privs '{vms}'"
                ),
                "pveum acl modify /vms --roles Nixos-vms --tokens 'a@pve!t'",
                "# only if a@pve lacks them, too: pveum acl modify /vms --roles Nixos-vms --users 'a@pve'",
            ]
        );
    }

    #[test]
    fn nothing_of_the_inventory_is_run_as_a_command() {
        let settings = Settings::with(json!({"iso_storage": "x; reboot", "pool": "$(reboot)"}));
        let commands = compared(&Map::new(), "a@pve!t", &settings).commands;
        assert!(!commands.is_empty());
        assert!(!commands.join("\n").contains("reboot"), "{commands:?}");
        assert_eq!(
            compared(&Map::new(), "a@pve!t'; reboot", &settings).commands,
            [] as [&str; 0]
        );
    }

    #[test]
    fn the_nearest_path_counts() {
        let permissions = json!({
            "/": {"Sys.Audit": 1}, "/vms": {"VM.Audit": 1, "VM.Allocate": 0}, "/vms/100": {"VM.PowerMgmt": 1},
            "/storage": {"Datastore.Audit": 1},
        });
        let permissions = permissions.as_object().unwrap();
        for (path, privilege, expected) in [
            ("/vms", "VM.Audit", true),
            ("/vms/101", "VM.Audit", true),
            ("/vms/101", "VM.Allocate", false),
            ("/vms", "VM.Allocate", true),
            // An entry on a deeper path replaces what comes from above.
            ("/vms/100", "VM.Audit", false),
            ("/vms/100", "VM.PowerMgmt", true),
            ("/nodes/pve", "Sys.Audit", true),
            ("/storage/local", "Datastore.Audit", true),
            ("/storage/local", "Datastore.Allocate", false),
        ] {
            assert_eq!(
                permits(permissions, path, privilege),
                expected,
                "{path} {privilege}"
            );
        }
    }

    #[test]
    fn every_nic_may_use_its_bridge() {
        let lacking = |permissions: Value, net: Value| {
            let settings = Settings::with(json!({"net": net}));
            let lacking = networks(permissions.as_object().unwrap(), &settings);
            lacking.iter().map(Need::text).collect::<Vec<_>>()
        };
        let bridge = json!({"/sdn/zones/localnetwork/vmbr0": {"SDN.Use": 1}});
        let vlan = json!({"/sdn/zones/localnetwork/vmbr0/20": {"SDN.Use": 1}});
        let zone = json!({"/sdn/zones/zone1": {"SDN.Use": 1}});
        let all = json!({"/sdn": {"SDN.Use": 1}});
        for (permissions, net, expected) in [
            (&bridge, json!({"net0": "virtio,bridge=vmbr0"}), vec![]),
            (
                &bridge,
                json!({"net0": {"bridge": "vmbr0", "tag": 20, "trunks": [30, 40]}}),
                vec![],
            ),
            (&vlan, json!({"net0": "virtio,bridge=vmbr0,tag=20"}), vec![]),
            (&zone, json!({"net0": "virtio,bridge=blue"}), vec![]),
            (&all, json!({"net0": "virtio,bridge=vmbr3,tag=7"}), vec![]),
            (&bridge, json!({"net1": "virtio"}), vec![]),
            (
                &vlan,
                json!({"net0": "virtio,bridge=vmbr0", "net1": "virtio,bridge=vmbr0,trunks=20;30-40"}),
                vec![
                    "SDN.Use on /sdn/zones/localnetwork/vmbr0 (nixos_vm_net.net0)",
                    "SDN.Use on /sdn/zones/localnetwork/vmbr0/30 (nixos_vm_net.net1)",
                ],
            ),
        ] {
            assert_eq!(lacking(permissions.clone(), net.clone()), expected, "{net}");
        }
    }
}
