//! What the module makes of descriptions, on a test host.

mod common;

use common::{Lab, volume, with};
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
    let lab = Lab::new();
    let made = lab.ok(web1());
    assert_eq!(
        (&made["changed"], &made["exists"], &made["status"]),
        (&json!(true), &json!(true), &json!("stopped"))
    );
    assert_eq!(made["tags"], json!(["a", "b"]));
    assert_eq!(made["config"]["boot"], "order=scsi0;ide2");
    assert_eq!(made["diff"]["before"], json!({}));
    let disk = made["diff"]["after"]["scsi0"].as_str().unwrap();
    assert!(disk.ends_with(",discard=on,iothread=1,size=1G"), "{disk}");
    let vmid = made["vmid"].as_u64().unwrap();

    let writes = lab.writes();
    let again = lab.ok(web1());
    assert_eq!(again["changed"], json!(false), "{again:#}");
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
    let lab = Lab::new();
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
    assert_eq!(lab.ok(other)["changed"], json!(false));
}

#[test]
fn check_mode_says_the_same_and_does_nothing() {
    let lab = Lab::new();
    let would = lab.check(web1());
    assert_eq!(
        (&would["changed"], &would["exists"], &would["actions"]),
        (&json!(true), &json!(false), &json!(["create"]))
    );
    assert_eq!(would["diff"]["after"]["memory"], "512");
    assert_eq!(lab.vms(), []);
    assert!(lab.writes().is_empty());

    lab.ok(web1());
    let writes = lab.writes();
    let would = lab.check(with(web1(), json!({"memory": 900, "state": "started"})));
    assert_eq!(
        (&would["changed"], &would["actions"]),
        (&json!(true), &json!(["change", "start"]))
    );
    assert_eq!(would["diff"]["after"]["memory"], "900");
    assert_eq!(would["diff"]["after"]["status"], "running");
    assert_eq!(lab.check(web1())["changed"], json!(false));
    let gone = lab.check(json!({"name": "web1", "state": "absent"}));
    assert_eq!(gone["changed"], json!(true));
    assert_eq!(lab.writes(), writes);
}

#[test]
fn a_disk_is_never_shrunk_or_replaced() {
    let lab = Lab::new();
    let vmid = lab.ok(with(web1(), json!({"scsi": {"scsi0": "local:2"}})))["vmid"]
        .as_u64()
        .unwrap();
    let before = lab.config(vmid);
    for (scsi0, part) in [
        ("local:1", "never shrunk"),
        ("local-zfs:2", "not moved without move_disks"),
        (
            "local:iso/a.iso,media=cdrom",
            "there is a disk where a CD-ROM is described",
        ),
    ] {
        let refused = lab.fails(with(
            web1(),
            json!({"scsi": {"scsi0": scsi0}, "memory": 999}),
        ));
        assert!(
            refused["msg"].as_str().unwrap().contains(part),
            "{refused:#}"
        );
        assert_eq!(refused["error"]["kind"], "refused");
    }
    assert_eq!(lab.config(vmid), before);
}

#[test]
fn removing_drives_of_a_stopped_vm() {
    let lab = Lab::new();
    let disks = json!({"scsi": {"scsi0": "local:1", "scsi1": "local:1", "scsi2": "local:1"}});
    let vmid = lab.ok(with(web1(), disks))["vmid"].as_u64().unwrap();
    let config = lab.config(vmid);
    let (kept, deleted) = (volume(&config, "scsi1"), volume(&config, "scsi2"));

    let without = json!({"name": "web1", "remove_disks": ["ide2"], "boot": "order=scsi0"});
    let removed = lab.ok(without.clone());
    assert_eq!(removed["config"].get("ide2"), None, "{removed:#}");
    assert_eq!(removed["config"]["boot"], "order=scsi0");
    assert!(lab.has_volume("local:template/iso/a.iso"));
    assert_eq!(lab.ok(without)["changed"], json!(false));

    let detached = lab.ok(json!({"name": "web1", "remove_disks": ["scsi1"]}));
    assert_eq!(detached["config"]["unused0"], kept.as_str());
    assert!(lab.has_volume(&kept));

    let gone = lab.ok(json!({"name": "web1", "remove_disks": ["scsi2"], "delete_disks": true}));
    assert!(!lab.has_volume(&deleted), "{gone:#}");
    assert!(lab.has_volume(&kept));
    assert_eq!(gone["config"]["unused0"], kept.as_str());

    let refused = lab.fails(json!({"name": "web1", "remove_disks": ["unused0"]}));
    assert!(
        refused["msg"].as_str().unwrap().contains("delete_disks"),
        "{refused:#}"
    );
    lab.ok(json!({"name": "web1", "remove_disks": ["unused0"], "delete_disks": true}));
    assert!(!lab.has_volume(&kept));
}

#[test]
fn a_cdrom_leaves_a_running_vm_at_once_and_its_drive_with_the_next_stop() {
    let lab = Lab::new();
    let vmid = lab.ok(with(web1(), json!({"state": "started"})))["vmid"]
        .as_u64()
        .unwrap();
    let out = lab.ok(json!({"name": "web1", "remove_disks": ["ide2"], "boot": "order=scsi0"}));
    assert_eq!(
        (&out["changed"], &out["restart_required"]),
        (&json!(true), &json!(true)),
        "{out:#}"
    );
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
    let again = lab.ok(json!({"name": "web1", "remove_disks": ["ide2"], "boot": "order=scsi0"}));
    assert_eq!(
        (&again["changed"], &again["restart_required"]),
        (&json!(false), &json!(true))
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
    assert_eq!(
        lab.ok(json!({"name": "web1", "restart": true}))["changed"],
        json!(false)
    );
}

#[test]
fn boot_is_as_described_after_cdroms_come_and_go() {
    let lab = Lab::new();
    let vmid = lab.ok(web1())["vmid"].as_u64().unwrap();
    // PVE appends a CD-ROM to the boot order, but never its own cloud-init drive.
    lab.configure(vmid, "ide0", "local:cloudinit");
    assert_eq!(lab.config(vmid)["boot"], "order=scsi0;ide2");
    lab.configure(vmid, "ide3", "none,media=cdrom");
    assert_eq!(lab.config(vmid)["boot"], "order=scsi0;ide2;ide3");
    let fixed = lab.ok(web1());
    assert_eq!(
        (&fixed["changed"], &fixed["config"]["boot"]),
        (&json!(true), &json!("order=scsi0;ide2"))
    );
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
    let missing = lab.fails(json!({"name": "web1", "boot": "order=scsi9"}));
    assert!(
        missing["msg"]
            .as_str()
            .unwrap()
            .contains("boot names scsi9"),
        "{missing:#}"
    );
}

#[test]
fn power_states() {
    let lab = Lab::new();
    let missing = lab.fails(json!({"name": "web1", "state": "started"}));
    assert!(
        missing["msg"].as_str().unwrap().contains("does not exist"),
        "{missing:#}"
    );
    assert_eq!(
        lab.ok(with(web1(), json!({"state": "started"})))["status"],
        "running"
    );
    let only = |state: &str| json!({"name": "web1", "state": state});
    assert_eq!(lab.ok(only("started"))["changed"], json!(false));
    assert_eq!(lab.ok(only("restarted"))["actions"], json!(["restart"]));
    let stopped = lab.ok(only("stopped"));
    assert_eq!(
        (&stopped["status"], &stopped["diff"]["after"]["status"]),
        (&json!("stopped"), &json!("stopped"))
    );
    assert_eq!(stopped["diff"]["before"]["status"], "running");
    assert_eq!(lab.ok(only("stopped"))["changed"], json!(false));
    assert_eq!(lab.ok(only("current"))["status"], "stopped");
}

#[test]
fn a_guest_that_does_not_shut_down_is_stopped_only_by_force() {
    let lab = Lab::new();
    lab.ok(with(
        web1(),
        json!({"state": "started", "agent": false, "config": {"acpi": false}}),
    ));
    let deaf = lab.fails(json!({"name": "web1", "state": "stopped", "timeout": 6}));
    assert_eq!(deaf["error"]["kind"], "timeout", "{deaf:#}");
    assert!(
        deaf["msg"]
            .as_str()
            .unwrap()
            .contains("did not shut down within"),
        "{deaf:#}"
    );
    assert_eq!(
        lab.ok(json!({"name": "web1", "state": "current"}))["status"],
        "running"
    );
    let forced = lab.ok(json!({"name": "web1", "state": "stopped", "force": true, "timeout": 20}));
    assert_eq!(forced["status"], "stopped");
}

#[test]
fn changes_of_a_running_vm_wait_and_are_reported() {
    let lab = Lab::new();
    lab.ok(with(web1(), json!({"state": "started"})));
    let more = with(web1(), json!({"memory": 800, "description": "now"}));
    let waits = lab.ok(more.clone());
    assert_eq!(
        (&waits["changed"], &waits["restart_required"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        waits["pending"],
        json!([{"key": "memory", "value": "512", "pending": "800", "delete": false}])
    );
    let again = lab.ok(more.clone());
    assert_eq!(
        (&again["changed"], &again["restart_required"]),
        (&json!(false), &json!(true))
    );
    let renewed = lab.ok(with(more, json!({"restart": true})));
    assert_eq!(
        (&renewed["restart_required"], &renewed["status"]),
        (&json!(false), &json!("running"))
    );
}

#[test]
fn absent_takes_what_the_vm_owns_and_nothing_else() {
    let lab = Lab::new();
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
    assert!(lab.has_volume(&disk));

    let removed = lab.ok(gone(true));
    assert_eq!(
        (&removed["changed"], &removed["exists"], &removed["status"]),
        (&json!(true), &json!(false), &json!("absent"))
    );
    assert!(!lab.has_volume(&disk));
    assert!(lab.has_volume("local:template/iso/a.iso"));
    assert_eq!(lab.vms(), []);
    assert_eq!(lab.ok(gone(true))["changed"], json!(false));
    assert_eq!(
        lab.ok(json!({"vmid": vmid, "state": "current"}))["exists"],
        json!(false)
    );
}

#[test]
fn vms_that_are_not_meant_are_not_touched() {
    let lab = Lab::new();
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

    lab.configure(302, "name", "a");
    let twins = lab.fails(json!({"name": "a"}));
    assert_eq!(twins["error"]["kind"], "ambiguous");
    assert!(
        twins["msg"]
            .as_str()
            .unwrap()
            .contains("301 on pve, 302 on pve"),
        "{twins:#}"
    );
    let renamed = lab.ok(with(named("b", 302), json!({"force": true})));
    assert_eq!(
        (&renamed["changed"], &renamed["name"]),
        (&json!(true), &json!("b"))
    );
}

#[test]
fn mistakes_are_named_before_anything_is_made() {
    let lab = Lab::new();
    for (change, kind, part) in [
        (
            json!({"scsi": {"scsi0": "nope:1"}}),
            "no_storage",
            "there is no storage nope on node pve",
        ),
        (
            json!({"scsi": {"scsi0": "noiso:1"}}),
            "storage_unusable",
            "noiso",
        ),
        (
            json!({"scsi": {"scsi0": "off:1"}}),
            "storage_unusable",
            "disabled",
        ),
        (
            json!({"ide": {"ide2": "local:iso/none.iso"}}),
            "no_iso",
            "there is no ISO local:iso/none.iso",
        ),
        (
            json!({"net": {"net0": "virtio,bridge=vmbr9"}}),
            "no_bridge",
            "there is no bridge vmbr9",
        ),
        (
            json!({"node": "pve7"}),
            "no_node",
            "the node pve7 does not exist; online are: pve",
        ),
        (
            json!({"scsi": {"scsi0": "local:1G"}}),
            "invalid_option",
            "takes a number of GiB",
        ),
        (
            json!({"name": "no_underscore"}),
            "invalid_option",
            "DNS name",
        ),
        (
            json!({"bios": "uefi"}),
            "invalid_option",
            "must be one of seabios, ovmf",
        ),
        (json!({"ostype": "nixos"}), "invalid_option", "ostype"),
        (
            json!({"vmid": 99}),
            "invalid_option",
            "vmid: must be at least 100 (got 99)",
        ),
        (
            json!({"node": null, "migrate": true}),
            "invalid_option",
            "migrate: requires node",
        ),
    ] {
        let failed = lab.fails(with(web1(), change.clone()));
        assert_eq!(failed["error"]["kind"], kind, "{change}: {failed:#}");
        assert!(
            failed["msg"].as_str().unwrap().contains(part),
            "{change}: {failed:#}"
        );
        assert!(!failed["msg"].as_str().unwrap().is_empty());
    }
    assert_eq!(lab.vms(), []);
}

#[test]
fn a_disk_of_another_vm_is_not_attached() {
    let lab = Lab::new();
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
    let lab = Lab::new();
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
    let failed = lab.fails(cores);
    assert_eq!(
        failed.get("changed").unwrap_or(&json!(false)),
        &json!(false),
        "{failed:#}"
    );
}

#[test]
fn without_a_node_one_is_chosen() {
    let lab = Lab::new();
    let made = lab.ok(json!({"name": "anywhere", "scsi": {"scsi0": "local:1"}}));
    assert_eq!(made["node"], "pve");
    assert_eq!(made["config"]["boot"], "order=scsi0");
}

#[test]
fn a_disk_moves_when_that_is_said() {
    let lab = Lab::new();
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
    assert_eq!(lab.ok(elsewhere(json!({})))["changed"], json!(false));
    // Back, while it runs, and nothing is left behind.
    let back = with(
        web1(),
        json!({"scsi": {"scsi0": "local:2,discard=on,iothread=1"}, "move_disks": true, "delete_disks": true}),
    );
    let back = lab.ok(back);
    assert_eq!(back["status"], "running");
    assert_eq!(back["unused_disks"], json!({"unused0": old}), "{back:#}");
    assert!(lab.has_volume(&volume(&back["config"], "scsi0")));
    let nowhere = lab.fails(with(
        web1(),
        json!({"scsi": {"scsi0": "noiso:2"}, "move_disks": true}),
    ));
    assert_eq!(nowhere["error"]["kind"], "storage_unusable");
}

#[test]
fn a_disk_begins_as_a_copy_of_a_volume() {
    let lab = Lab::new();
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
    assert_eq!(lab.ok(second)["changed"], json!(false));
}

#[test]
fn what_only_root_may_set_is_said_before() {
    let lab = Lab::new();
    for (options, name) in [
        (json!({"config": {"args": "-x"}}), "args"),
        (
            json!({"config": {"hookscript": "local:snippets/a.pl"}}),
            "hookscript",
        ),
        (json!({"serial": {"serial1": "/dev/ttyS0"}}), "serial1"),
        (json!({"hostpci": {"hostpci0": "01:00.0"}}), "hostpci0"),
        (json!({"usb": {"usb0": "host=1234:5678"}}), "usb0"),
        (
            json!({"sata": {"sata3": {"storage": "local", "import_from": "/etc/passwd"}}}),
            "sata3",
        ),
    ] {
        let refused = lab.fails(with(web1(), options));
        assert_eq!(refused["error"]["kind"], "root_only", "{refused:#}");
        assert_eq!(refused["error"]["object"], name);
    }
    assert!(lab.writes().is_empty());
}

#[test]
fn a_guest_whose_agent_is_silent_is_no_failure() {
    let lab = Lab::new();
    lab.ok(with(web1(), json!({"state": "started"})));
    for action in ["status", "drop-after"] {
        lab.faults(json!([{"path": "/nodes/pve/qemu/*/agent/*", "nth": 2, "action": action}]));
        for _ in 0..2 {
            let silent = lab.ok(json!({"name": "web1", "state": "current", "guest_facts": true}));
            assert_eq!(silent.get("guest_agent"), None, "{silent:#}");
        }
    }
}
