//! A VM that the role is installing, and what a rollback means for the record of that installation.

use crate::lab::{lab, snapshot, snapshots, take};
use insta::assert_snapshot;
use module_lab::Lab;
use pve_module::record::{Binding, Identity, Phase, Record};
use serde_json::{Value, json};

fn text<'a>(config: &'a Value, key: &str) -> &'a str {
    config[key].as_str().unwrap()
}

fn identity(config: &Value) -> Identity {
    Identity::of(Some(text(config, "smbios1")), Some(text(config, "vmgenid")))
}

/// Write the record of an installation in this phase into the VM's notes, as the role does.
fn record(lab: &Lab, phase: Phase) {
    let identity = identity(&lab.config(101));
    let record = Record {
        installation: "0123456789abcdef0123456789abcdef".into(),
        host: "web1".into(),
        vmid: 101,
        uuid: identity.uuid.unwrap(),
        generation: identity.generation,
        phase,
        run: "1a2b3c4d".into(),
        disk: None,
        drives: None,
        installer: None,
        installer_key: None,
        host_key: None,
        image: None,
        template: None,
        reinstall: None,
    };
    lab.configure(101, &[("description", &format!("notes\n\n{record}"))]);
}

#[test]
fn a_vm_is_left_alone_until_its_installation_is_finished() {
    let lab = lab();
    take(&lab, "s1");
    let mut refused = Vec::new();
    for phase in [Phase::Provisioning, Phase::Installing, Phase::Installed] {
        record(&lab, phase);
        let cases = [
            snapshot("s2", json!({})),
            snapshot("s1", json!({"description": "x"})),
            snapshot("s1", json!({"state": "absent"})),
            snapshot("s1", json!({"state": "rolled_back"})),
            snapshot(
                "s1",
                json!({"state": "rolled_back", "_ansible_check_mode": true}),
            ),
        ];
        refused.push(lab.refuses_each(&json!({}), cases));
        lab.unchanged(snapshot("s1", json!({})));
        lab.unchanged(snapshot("s9", json!({"state": "absent"})));
    }
    assert_snapshot!(refused.join("\n"), @"
    5 times installing: VM 101 (web1): its installation for the inventory host web1 is not finished (phase 'provisioning'); nothing was done to it
      finish the installation first: run provision.yml for that host; to work on the VM anyway, set allow_during_installation: true
    5 times installing: VM 101 (web1): its installation for the inventory host web1 is not finished (phase 'installing'); nothing was done to it
      finish the installation first: run provision.yml for that host; to work on the VM anyway, set allow_during_installation: true
    5 times installing: VM 101 (web1): its installation for the inventory host web1 is not finished (phase 'installed'); nothing was done to it
      finish the installation first: run provision.yml for that host; to work on the VM anyway, set allow_during_installation: true
    ");
    lab.changed(snapshot("s2", json!({"allow_during_installation": true})));
    for phase in [Phase::Done, Phase::Adopted] {
        record(&lab, phase);
        lab.changed(snapshot("s3", json!({})));
        lab.changed(snapshot("s3", json!({"state": "absent"})));
    }
}

#[test]
fn an_installation_that_begins_while_a_lock_is_waited_for_is_noticed() {
    let lab = lab();
    let now = identity(&lab.config(101));
    lab.edit(101, |text| format!("lock: clone\n{text}"));
    let waiting = lab.start(snapshot("s1", json!({})));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    // In the comment lines of a configuration PVE escapes the colon.
    let record = format!(
        "<!-- nixos-proxmox%3A v=1 installation=0123456789abcdef0123456789abcdef host=web1 vmid=101 uuid={} generation={} \
         phase=installing run=1a2b3c4d -->",
        now.uuid.unwrap(),
        now.generation.unwrap()
    );
    lab.edit(101, |text| format!("#{record}\n{text}"));
    let ended = lab.ended(waiting);
    assert_eq!(ended["error"]["kind"], "installing", "{ended:#}");
    lab.edit(101, |text| text.replace("lock: clone\n", ""));
    assert!(snapshots(&lab).is_empty());
}

/// The role decides by the record in the notes, which a rollback leaves as it is, and takes nothing unfinished up whose `vmgenid` is
/// another one (`decide` in nixos_vm_lifecycle).
#[test]
fn a_rollback_never_brings_a_phase_back() {
    let lab = lab();
    let back = snapshot(
        "mid",
        json!({"state": "rolled_back", "allow_during_installation": true}),
    );
    record(&lab, Phase::Installing);
    lab.changed(snapshot("mid", json!({"allow_during_installation": true})));
    // Rolled back in the middle of it: the record is still there, and no run goes on with it.
    lab.changed(back.clone());
    let config = lab.config(101);
    let found = Record::find(text(&config, "description")).unwrap();
    assert_eq!(
        (found.phase, found.binding(101, &identity(&config))),
        (Phase::Installing, Binding::RolledBack)
    );
    // In production, and rolled back to the middle of the installation: the phase is today's.
    record(&lab, Phase::Done);
    lab.changed(back);
    let config = lab.config(101);
    let found = Record::find(text(&config, "description")).unwrap();
    assert_eq!(
        (found.phase, found.binding(101, &identity(&config))),
        (Phase::Done, Binding::RolledBack)
    );
}
