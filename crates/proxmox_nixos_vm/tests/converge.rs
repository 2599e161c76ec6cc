//! What the module makes of descriptions, on a test host.

mod common;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

fn web1() -> Value {
    json!({
        "node": "pve", "name": "web1", "memory": 512, "cores": 1, "agent": true, "onboot": false, "tags": ["B", "a"],
        "scsihw": "virtio-scsi-single", "description": "made by a test\n", "serial": {"serial0": "socket"},
        "scsi": {"scsi0": {"storage": "local", "size": "1G", "discard": true, "iothread": true}},
        "ide": {"ide2": "local:iso/a.iso,media=cdrom"},
        "net": {"net0": {"bridge": "vmbr0", "firewall": true}},
        "boot": "order=scsi0;ide2",
    })
}

#[test]
fn created_once_and_then_left_alone() {
    let lab = lab();
    let made = lab.changed(web1());
    assert_eq!(made["exists"], json!(true));
    assert_eq!(made["status"], json!("stopped"));
    assert_eq!(made["tags"], json!(["a", "b"]));
    assert_eq!(made["config"]["boot"], "order=scsi0;ide2");
    assert_eq!(made["diff"]["before"], json!({}));
    let disk = made["diff"]["after"]["scsi0"].as_str().unwrap();
    assert!(disk.ends_with(",discard=on,iothread=1,size=1G"), "{disk}");
    let vmid = made["vmid"].as_u64().unwrap();

    let writes = lab.writes();
    let again = lab.unchanged(web1());
    assert_eq!(again["vmid"], json!(vmid));
    assert_eq!(lab.writes(), writes);
    assert_eq!(again["diff"]["before"], again["diff"]["after"]);
    assert_eq!(
        again["msg"],
        format!("VM {vmid} (web1) on pve is as described")
    );
}

#[test]
fn only_differences_are_sent() {
    let lab = lab();
    let vmid = lab.ok(web1())["vmid"].as_u64().unwrap();
    let mac = lab.config(vmid)["net0"].clone();
    let other = with(
        web1(),
        json!({
            "memory": 700, "tags": ["c"], "description": "", "net": {"net0": "virtio,bridge=vmbr0"},
            "scsi": {"scsi0": "local:2,discard=on", "scsi1": "local:1"}, "config": {"numa": 1},
        }),
    );
    let changed = lab.ok(other.clone());
    let config = lab.config(vmid);
    assert_eq!(
        changed["msg"],
        format!(
            "VM {vmid} (web1) on pve: changed description, memory, net0, numa, scsi0, scsi1, tags"
        )
    );
    assert_eq!(config["memory"], "700");
    assert_eq!(config["tags"], "c");
    assert_eq!(config.get("description"), None);
    assert!(
        config["scsi0"]
            .as_str()
            .unwrap()
            .ends_with(",discard=on,size=2G"),
        "{config:#}"
    );
    assert!(
        config["scsi1"].as_str().unwrap().ends_with("size=1G"),
        "{config:#}"
    );
    assert_eq!(
        config["net0"].as_str().unwrap().split(',').next(),
        mac.as_str().unwrap().split(',').next()
    );
    assert_eq!(config["boot"], "order=scsi0;ide2");
    assert_eq!(changed["diff"]["before"]["memory"], "512");
    assert_eq!(changed["diff"]["after"]["memory"], "700");
    lab.unchanged(other);
}

#[test]
fn check_mode_says_the_same_and_does_nothing() {
    let lab = lab();
    let would = lab.would_change(web1());
    assert_eq!(would["exists"], json!(false));
    assert_eq!(would["actions"], json!(["create"]));
    assert_eq!(would["diff"]["after"]["memory"], "512");
    assert_eq!(lab.vms(), []);
    assert!(lab.writes().is_empty());

    lab.ok(web1());
    let writes = lab.writes();
    let would = lab.would_change(with(web1(), json!({"memory": 900, "state": "started"})));
    assert_eq!(would["actions"], json!(["change", "start"]));
    assert_eq!(would["diff"]["after"]["memory"], "900");
    assert_eq!(would["diff"]["after"]["status"], "running");
    assert_eq!(lab.check(web1())["changed"], json!(false));
    lab.would_change(json!({"name": "web1", "state": "absent"}));
    assert_eq!(lab.writes(), writes);
}

#[test]
fn a_disk_is_never_shrunk_or_replaced() {
    let lab = lab();
    let vmid = lab.ok(with(web1(), json!({"scsi": {"scsi0": "local:2"}})))["vmid"]
        .as_u64()
        .unwrap();
    let before = lab.config(vmid);
    let cases = [
        json!({"scsi": {"scsi0": "local:1"}}),
        json!({"scsi": {"scsi0": "local-zfs:2"}}),
        json!({"scsi": {"scsi0": "local:iso/a.iso,media=cdrom"}}),
    ];
    let usual = with(web1(), json!({"memory": 999}));
    assert_snapshot!(lab.refuses_each(&usual, cases), @"
    refused: VM 100 (web1) cannot be made as described: scsi0: the disk has 2G and not 1G; a disk is never shrunk: describe it with 2G
    refused: VM 100 (web1) cannot be made as described: scsi0: the disk is on the storage local and not on local-zfs; it is not moved without move_disks: true
    refused: VM 100 (web1) cannot be made as described: scsi0: there is a disk where a CD-ROM is described; remove it first (remove_disks), or take another key
    ");
    assert_eq!(lab.config(vmid), before);
}

#[test]
fn removing_drives_of_a_stopped_vm() {
    let lab = lab();
    let disks = json!({"scsi": {"scsi0": "local:1", "scsi1": "local:1", "scsi2": "local:1"}});
    let vmid = lab.ok(with(web1(), disks))["vmid"].as_u64().unwrap();
    let config = lab.config(vmid);
    let (kept, deleted) = (volume(&config, "scsi1"), volume(&config, "scsi2"));

    let without = json!({"name": "web1", "remove_disks": ["ide2"], "boot": "order=scsi0"});
    let removed = lab.ok(without.clone());
    assert_eq!(removed["config"].get("ide2"), None, "{removed:#}");
    assert_eq!(removed["config"]["boot"], "order=scsi0");
    assert!(has_volume(&lab, "local:template/iso/a.iso"));
    lab.unchanged(without);

    let detached = lab.ok(json!({"name": "web1", "remove_disks": ["scsi1"]}));
    assert_eq!(detached["config"]["unused0"], kept.as_str());
    assert!(has_volume(&lab, &kept));

    let gone = lab.ok(json!({"name": "web1", "remove_disks": ["scsi2"], "delete_disks": true}));
    assert!(!has_volume(&lab, &deleted), "{gone:#}");
    assert!(has_volume(&lab, &kept));
    assert_eq!(gone["config"]["unused0"], kept.as_str());

    assert_snapshot!(lab.refuses(json!({"name": "web1", "remove_disks": ["unused0"]})), @"invalid_option: remove_disks: unused0 is detached already; set delete_disks to delete its volume");
    lab.ok(json!({"name": "web1", "remove_disks": ["unused0"], "delete_disks": true}));
    assert!(!has_volume(&lab, &kept));
}

#[test]
fn a_cdrom_leaves_a_running_vm_at_once_and_its_drive_with_the_next_stop() {
    let lab = lab();
    let vmid = lab.ok(with(web1(), json!({"state": "started"})))["vmid"]
        .as_u64()
        .unwrap();
    let out = lab.changed(json!({"name": "web1", "remove_disks": ["ide2"], "boot": "order=scsi0"}));
    assert_eq!(out["restart_required"], json!(true));
    let line = out["pending"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["key"] == "ide2")
        .unwrap();
    assert_eq!(
        (&line["value"], &line["delete"]),
        (&json!("none,media=cdrom"), &json!(true))
    );
    assert_eq!(
        lab.unchanged(json!({"name": "web1", "remove_disks": ["ide2"], "boot": "order=scsi0"}))["restart_required"],
        json!(true)
    );

    let renewed = lab.ok(json!({"name": "web1", "restart": true}));
    assert_eq!(renewed["actions"], json!(["restart"]));
    assert_eq!(
        (&renewed["status"], &renewed["pending"]),
        (&json!("running"), &json!([])),
        "{renewed:#}"
    );
    assert_eq!(lab.config(vmid).get("ide2"), None);
    assert_eq!(lab.config(vmid)["boot"], "order=scsi0");
    lab.unchanged(json!({"name": "web1", "restart": true}));
}

#[test]
fn boot_is_as_described_after_cdroms_come_and_go() {
    let lab = lab();
    let vmid = lab.ok(web1())["vmid"].as_u64().unwrap();
    // PVE appends a CD-ROM to the boot order, but never its own cloud-init drive.
    lab.configure(vmid, &[("ide0", "local:cloudinit")]);
    assert_eq!(lab.config(vmid)["boot"], "order=scsi0;ide2");
    lab.configure(vmid, &[("ide3", "none,media=cdrom")]);
    assert_eq!(lab.config(vmid)["boot"], "order=scsi0;ide2;ide3");
    let fixed = lab.changed(web1());
    assert_eq!(fixed["config"]["boot"], json!("order=scsi0;ide2"));
    assert!(
        fixed["config"]["ide0"]
            .as_str()
            .unwrap()
            .contains("cloudinit"),
        "{fixed:#}"
    );

    lab.ok(json!({"name": "web1", "ide": {"ide1": {"iso": "local:iso/b.iso"}}}));
    assert_eq!(lab.config(vmid)["boot"], "order=scsi0;ide2");
    lab.ok(json!({"name": "web1", "ide": {"ide2": "local:iso/b.iso"}, "boot": "ide2;scsi0"}));
    assert_eq!(lab.config(vmid)["boot"], "order=ide2;scsi0");
    assert_snapshot!(lab.refuses(json!({"name": "web1", "boot": "order=scsi9"})), @"refused: VM 100 (web1) cannot be made as described: boot names scsi9, which the VM will not have");
}

#[test]
fn power_states() {
    let lab = lab();
    assert_snapshot!(lab.refuses(json!({"name": "web1", "state": "started"})), @"
    not_found: VM web1 does not exist
      create it first with state: present, or describe its drives, network or memory here
    ");
    assert_eq!(
        lab.ok(with(web1(), json!({"state": "started"})))["status"],
        "running"
    );
    let only = |state: &str| json!({"name": "web1", "state": state});
    lab.unchanged(only("started"));
    assert_eq!(lab.ok(only("restarted"))["actions"], json!(["restart"]));
    let stopped = lab.ok(only("stopped"));
    assert_eq!(
        (&stopped["status"], &stopped["diff"]["after"]["status"]),
        (&json!("stopped"), &json!("stopped"))
    );
    assert_eq!(stopped["diff"]["before"]["status"], "running");
    lab.unchanged(only("stopped"));
    assert_eq!(lab.ok(only("current"))["status"], "stopped");
}

#[test]
fn a_guest_that_does_not_shut_down_is_stopped_only_by_force() {
    let lab = lab();
    lab.ok(with(
        web1(),
        json!({"state": "started", "agent": false, "config": {"acpi": false}}),
    ));
    assert_snapshot!(failure(&lab.fails(json!({"name": "web1", "state": "stopped", "timeout": 6}))), @"
    timeout: VM 100 (web1) did not shut down within [seconds] s: VM quit/powerdown failed - got timeout
      look at its console: does the guest react to ACPI, or run the guest agent? force: true stops it hard, a longer timeout gives it more time
    ");
    assert_eq!(
        lab.ok(json!({"name": "web1", "state": "current"}))["status"],
        "running"
    );
    let forced = lab.ok(json!({"name": "web1", "state": "stopped", "force": true, "timeout": 20}));
    assert_eq!(forced["status"], "stopped");
}

#[test]
fn changes_of_a_running_vm_wait_and_are_reported() {
    let lab = lab();
    lab.ok(with(web1(), json!({"state": "started"})));
    let more = with(web1(), json!({"memory": 800, "description": "now"}));
    let waits = lab.changed(more.clone());
    assert_eq!(waits["restart_required"], json!(true));
    assert_eq!(
        waits["pending"],
        json!([{"key": "memory", "value": "512", "pending": "800", "delete": false}])
    );
    assert_eq!(lab.unchanged(more.clone())["restart_required"], json!(true));
    let renewed = lab.ok(with(more, json!({"restart": true})));
    assert_eq!(
        (&renewed["restart_required"], &renewed["status"]),
        (&json!(false), &json!("running"))
    );
}

#[test]
fn absent_takes_what_the_vm_owns_and_nothing_else() {
    let lab = lab();
    let made = lab.ok(with(
        web1(),
        json!({"state": "started", "protection": true}),
    ));
    let vmid = made["vmid"].as_u64().unwrap();
    let disk = volume(&lab.config(vmid), "scsi0");
    let gone = |force: bool| json!({"name": "web1", "state": "absent", "force": force});
    assert_eq!(lab.fails(gone(true))["error"]["kind"], "protected");
    lab.ok(with(web1(), json!({"protection": false})));
    assert_eq!(lab.fails(gone(false))["error"]["kind"], "running");
    assert!(has_volume(&lab, &disk));

    let removed = lab.changed(gone(true));
    assert_eq!(removed["exists"], json!(false));
    assert_eq!(removed["status"], json!("absent"));
    assert!(!has_volume(&lab, &disk));
    assert!(has_volume(&lab, "local:template/iso/a.iso"));
    assert_eq!(lab.vms(), []);
    lab.unchanged(gone(true));
    assert_eq!(
        lab.ok(json!({"vmid": vmid, "state": "current"}))["exists"],
        json!(false)
    );
}

#[test]
fn vms_that_are_not_meant_are_not_touched() {
    let lab = lab();
    let named = |name: &str, vmid: u64| json!({"node": "pve", "name": name, "vmid": vmid});
    lab.ok(named("a", 301));
    lab.ok(named("b", 302));
    let writes = lab.writes();
    assert_eq!(lab.fails(named("a", 302))["error"]["kind"], "name_differs");
    assert_eq!(lab.fails(named("a", 303))["error"]["kind"], "name_taken");
    assert_eq!(lab.fails(named("c", 301))["error"]["kind"], "name_differs");
    assert_eq!(
        lab.fails(with(
            named("a", 302),
            json!({"state": "absent", "force": true})
        ))["error"]["kind"],
        "name_differs"
    );
    assert_eq!(lab.writes(), writes);

    lab.configure(302, &[("name", "a")]);
    assert_snapshot!(lab.refuses(json!({"name": "a"})), @"
    ambiguous: 2 VMs have the name a: 301 on pve, 302 on pve
      say which one with vmid, or rename the others
    ");
    assert_eq!(
        lab.changed(with(named("b", 302), json!({"force": true})))["name"],
        json!("b")
    );
}

#[test]
fn mistakes_are_named_before_anything_is_made() {
    let lab = lab();
    let cases = [
        json!({"scsi": {"scsi0": "nope:1"}}),
        json!({"scsi": {"scsi0": "noiso:1"}}),
        json!({"scsi": {"scsi0": "off:1"}}),
        json!({"ide": {"ide2": "local:iso/none.iso"}}),
        json!({"net": {"net0": "virtio,bridge=vmbr9"}}),
        json!({"node": "pve7"}),
        json!({"scsi": {"scsi0": "local:1G"}}),
        json!({"name": "no_underscore"}),
        json!({"bios": "uefi"}),
        json!({"ostype": "nixos"}),
        json!({"vmid": 99}),
        json!({"node": null, "migrate": true}),
    ];
    assert_snapshot!(lab.refuses_each(&web1(), cases), @r#"
    no_storage: storage nope does not exist on node pve (available: local, local-zfs, noiso, off)
      correct its name, or give the token the privilege Datastore.AllocateSpace on it: what a token may not use is not listed
    storage_unusable: storage noiso on node pve may not hold images, only snippets
      choose another storage, or allow images on it (pvesm set noiso --content snippets,images)
    storage_unusable: storage off is disabled on node pve
      enable or repair it (pvesm status shows it on the node)
    no_iso: ISO local:iso/none.iso does not exist on node pve
      upload it first with the module proxmox_iso, or correct its name
    no_bridge: net: bridge vmbr9 does not exist on node pve (available: vmbr0)
      correct its name in net, or make the bridge first; PVE lists only bridges and vnets on which the API user has SDN.Use
    no_node: node: pve7 does not exist (online: pve)
      correct node, or leave it out to take the online node with the most free memory
    invalid_option: scsi0: 'local:1G': PVE's text takes a number of GiB; write local:1, or a dict, which takes units: {storage: local, size: 1G}
    invalid_option: name: 'no_underscore' is not a DNS name: parts of at most 63 letters, digits and hyphens, joined by dots, 253 in all; PVE does not take '_', so write for example 'no-underscore', or in a play "{{ inventory_hostname | replace('_', '-') }}"
    invalid_option: bios: must be one of seabios, ovmf (got 'uefi')
    invalid_option: ostype: must be one of other, wxp, w2k, w2k3, w2k8, wvista, win7, win8, win10, win11, l24, l26, solaris (got 'nixos')
    invalid_option: vmid: must be at least 100 (got 99)
    invalid_option: migrate: requires node; set node to the node that the VM moves to
    "#);
    assert_eq!(lab.vms(), []);
}

#[test]
fn a_disk_of_another_vm_is_not_attached() {
    let lab = lab();
    let other = json!({"node": "pve", "name": "other", "scsi": {"scsi0": "local:0.0625"}, "state": "started"});
    let vmid = lab.ok(other)["vmid"].as_u64().unwrap();
    let volid = volume(&lab.config(vmid), "scsi0");
    let writes = lab.writes();
    let thief = json!({"node": "pve", "name": "thief", "scsi": {"scsi0": volid}});
    let more = json!({"scsi": {"scsi0": "local:1", "scsi3": volid}});
    for options in [thief.clone(), with(web1(), more)] {
        let refused = lab.fails(options);
        assert_eq!(refused["error"]["kind"], "refused");
        let part = format!("is a disk of VM {vmid}, not of");
        assert!(
            refused["msg"].as_str().unwrap().contains(&part),
            "{refused:#}"
        );
    }
    assert_eq!(lab.writes(), writes);
    let forced = lab.ok(with(thief, json!({"force": true})));
    assert_eq!(volume(&forced["config"], "scsi0"), volid);
}

#[test]
fn what_was_changed_before_a_failure_is_said() {
    let lab = lab();
    let disks = json!({"name": "web1", "node": "pve", "scsi": {"scsi0": "local:0.0625"}});
    let made = lab.ok(disks.clone());
    assert_eq!(made["diff"]["before"], json!({}), "{made:#}");
    let cores = with(disks, json!({"cores": 3, "scsi": {"scsi0": "local:0.125"}}));
    lab.faults(json!([{"method": "PUT", "path": "*/resize", "action": "task-fail", "message": "no space"}]));
    let failed = lab.fails(cores.clone());
    assert_eq!(
        (&failed["changed"], &failed["vmid"]),
        (&json!(true), &made["vmid"]),
        "{failed:#}"
    );
    // Nothing but that is left to do.
    assert_snapshot!(failure(&lab.fails(cores)), @"
    task_failed: cannot change VM 100 (web1): task resize 100 on pve failed: no space
      its whole log: pvenode task log UPID:pve:[task]:resize:100:root@pam!full:
    ");
}

#[test]
fn without_a_node_one_is_chosen() {
    let lab = lab();
    let made = lab.ok(json!({"name": "anywhere", "scsi": {"scsi0": "local:1"}}));
    assert_eq!(made["node"], "pve");
    assert_eq!(made["config"]["boot"], "order=scsi0");
}

#[test]
fn a_disk_moves_when_that_is_said() {
    let lab = lab();
    let vmid = lab.ok(web1())["vmid"].as_u64().unwrap();
    let old = volume(&lab.config(vmid), "scsi0");
    let elsewhere = |more: Value| {
        with(
            with(
                web1(),
                json!({"move_disks": true, "scsi": {"scsi0": "local-zfs:2,discard=on,iothread=1"}}),
            ),
            more,
        )
    };
    let check = lab.check(elsewhere(json!({})));
    assert_eq!(
        (&check["actions"], &check["diff"]["after"]["scsi0"]),
        (
            &json!(["change"]),
            &json!("local-zfs:2,discard=on,iothread=1")
        )
    );
    lab.faults(json!([{"method": "POST", "path": "/nodes/pve/qemu/*/move_disk", "nth": 1, "action": "drop-after"}]));
    let moved = lab.ok(elsewhere(json!({"state": "started"})));
    assert!(
        moved["config"]["scsi0"]
            .as_str()
            .unwrap()
            .ends_with("vm-100-disk-0,discard=on,iothread=1,size=2G"),
        "{moved:#}"
    );
    assert_eq!(moved["unused_disks"], json!({"unused0": old}));
    lab.unchanged(elsewhere(json!({})));
    // Back, while it runs, and nothing is left behind.
    let back = with(
        web1(),
        json!({"scsi": {"scsi0": "local:2,discard=on,iothread=1"}, "move_disks": true, "delete_disks": true}),
    );
    let back = lab.ok(back);
    assert_eq!(back["status"], "running");
    assert_eq!(back["unused_disks"], json!({"unused0": old}), "{back:#}");
    assert!(has_volume(&lab, &volume(&back["config"], "scsi0")));
    assert_snapshot!(lab.refuses(with(
        web1(),
        json!({"scsi": {"scsi0": "noiso:2"}, "move_disks": true}),
    )), @"
    storage_unusable: storage noiso on node pve may not hold images, only snippets
      choose another storage, or allow images on it (pvesm set noiso --content snippets,images)
    ");
}

#[test]
fn a_disk_begins_as_a_copy_of_a_volume() {
    let lab = lab();
    let options =
        |name: &str, disk: Value| json!({"node": "pve", "name": name, "scsi": {"scsi0": disk}});
    let first = lab.ok(options("first", json!("local:0.25")));
    let volid = volume(&first["config"], "scsi0");
    let second = options(
        "second",
        json!({"storage": "local-zfs", "import_from": volid, "size": "512M"}),
    );
    let made = lab.ok(second.clone());
    assert_eq!(
        made["config"]["scsi0"], "local-zfs:vm-101-disk-0,size=512M",
        "{made:#}"
    );
    lab.unchanged(second);
}

#[test]
fn what_only_root_may_set_is_said_before() {
    let lab = lab();
    let cases = [
        json!({"config": {"args": "-x"}}),
        json!({"config": {"hookscript": "local:snippets/a.pl"}}),
        json!({"serial": {"serial1": "/dev/ttyS0"}}),
        json!({"hostpci": {"hostpci0": "01:00.0"}}),
        json!({"usb": {"usb0": "host=1234:5678"}}),
        json!({"sata": {"sata3": {"storage": "local", "import_from": "/etc/passwd"}}}),
    ];
    assert_snapshot!(lab.refuses_each(&web1(), cases), @"
    root_only: PVE lets only root@pam, logged in with a password, change args of VM web1 so; this is root@pam!full
      use api_user: root@pam with api_password, and api_token_id: '' if a token is given elsewhere, for this task
    root_only: PVE lets only root@pam, logged in with a password, change hookscript of VM web1 so; this is root@pam!full
      use api_user: root@pam with api_password, and api_token_id: '' if a token is given elsewhere, for this task
    root_only: PVE lets only root@pam, logged in with a password, change serial1 of VM web1 so; this is root@pam!full
      use api_user: root@pam with api_password, and api_token_id: '' if a token is given elsewhere, for this task
    root_only: PVE lets only root@pam, logged in with a password, change hostpci0 of VM web1 so; this is root@pam!full
      use api_user: root@pam with api_password, and api_token_id: '' if a token is given elsewhere, for this task; a PCI or USB device that is given as mapping=NAME (Datacenter, Resource Mappings) needs the privilege Mapping.Use instead
    root_only: PVE lets only root@pam, logged in with a password, change usb0 of VM web1 so; this is root@pam!full
      use api_user: root@pam with api_password, and api_token_id: '' if a token is given elsewhere, for this task; a PCI or USB device that is given as mapping=NAME (Datacenter, Resource Mappings) needs the privilege Mapping.Use instead
    root_only: PVE lets only root@pam, logged in with a password, change sata3 of VM web1 so; this is root@pam!full
      use api_user: root@pam with api_password, and api_token_id: '' if a token is given elsewhere, for this task
    ");
    assert!(lab.writes().is_empty());
}

#[test]
fn a_guest_whose_agent_is_silent_is_no_failure() {
    let lab = lab();
    lab.ok(with(web1(), json!({"state": "started"})));
    for action in ["status", "drop-after"] {
        lab.faults(json!([{"path": "/nodes/pve/qemu/*/agent/*", "nth": 2, "action": action}]));
        for _ in 0..2 {
            let silent = lab.ok(json!({"name": "web1", "state": "current", "guest_facts": true}));
            assert_eq!(silent.get("guest_agent"), None, "{silent:#}");
        }
    }
}
