//! Seeds of our own on a test host.

use crate::lab::{KEY, Lab};
use module_lab::with;
use nocloud_seed::iso;
use serde_json::{Value, json};

fn seed() -> Value {
    json!({
        "node": "pve", "vmid": 101, "kind": "nocloud", "drive": "ide0", "storage": "local", "hostname": "web1",
        "ssh_authorized_keys": [KEY], "ipconfig": {"ipconfig0": "ip=10.77.0.11/24,gw=10.77.0.1"},
        "nameservers": ["10.77.0.1"], "user_data": {"chpasswd": {"list": "root:correct-horse-battery"}, "user": "nixos", "locale": "local", "mounts": [1]},
    })
}

fn absent() -> Value {
    json!({"node": "pve", "vmid": 101, "kind": "nocloud", "drive": "ide0", "storage": "local", "state": "absent"})
}

/// The one seed on the storage: its name and files.
fn only_seed(lab: &Lab) -> (String, std::collections::BTreeMap<String, Vec<u8>>) {
    let mut seeds = lab.seeds();
    assert_eq!(seeds.len(), 1, "{:?}", seeds.keys());
    let (name, bytes) = seeds.pop_first().unwrap();
    assert_eq!(iso::label(&bytes).unwrap(), "cidata");
    (name, iso::read(&bytes).unwrap())
}

#[test]
fn attached_once_with_its_content_and_the_boot_order_kept() {
    let lab = Lab::new();
    let would = lab.check(seed());
    assert_eq!(would["changed"], json!(true));
    let made = lab.ok(seed());
    assert_eq!(made["changed"], json!(true));
    assert_eq!(would["volid"], made["volid"]);
    assert_eq!(would["instance_id"], made["instance_id"]);
    let (name, files) = only_seed(&lab);
    assert_eq!(made["volid"], format!("local:iso/{name}"));
    let config = lab.config();
    assert!(
        config["ide0"]
            .as_str()
            .unwrap()
            .starts_with(&format!("local:iso/{name},media=cdrom")),
        "{config:#}"
    );
    assert_eq!(config["boot"], "order=scsi0;ide2");
    let text = |file: &str| String::from_utf8(files[file].clone()).unwrap();
    assert!(text("user-data").contains(KEY) && text("user-data").contains("hostname: web1"));
    assert!(
        text("network-config").contains("\"bc:24:11:00:00:0b\""),
        "{}",
        text("network-config")
    );
    assert!(text("meta-data").contains(made["instance_id"].as_str().unwrap()));
    assert_eq!(made["restart_required"], json!(false));
    assert!(!made.to_string().contains("correct-horse"), "{made:#}");

    let again = lab.unchanged(seed());
    assert_eq!(
        (&again["volid"], &again["instance_id"]),
        (&made["volid"], &made["instance_id"])
    );
}

#[test]
fn a_config_drive_takes_the_place_of_a_nocloud_drive() {
    let lab = Lab::new();
    let first = lab.ok(seed());
    let config_drive = with(seed(), json!({"layout": "configdrive"}));
    let made = lab.ok(config_drive.clone());
    assert_ne!(made["volid"], first["volid"]);
    let (_, image) = lab.seeds().pop_last().unwrap();
    assert_eq!(lab.seeds().len(), 1);
    assert_eq!(iso::label(&image).unwrap(), "config-2");
    let files = iso::read(&image).unwrap();
    let json = |name: &str| -> Value {
        serde_json::from_slice(&files[&format!("openstack/latest/{name}")]).unwrap()
    };
    assert_eq!(json("meta_data.json")["uuid"], made["instance_id"]);
    assert_eq!(
        json("network_data.json")["networks"][0]["ip_address"],
        "10.77.0.11"
    );
    lab.unchanged(config_drive);
    assert_eq!(lab.ok(absent())["changed"], json!(true));
    assert!(lab.seeds().is_empty());
}

#[test]
fn other_content_replaces_the_seed() {
    let lab = Lab::new();
    let first = lab.ok(seed());
    let second = lab.ok(with(seed(), json!({"hostname": "web2"})));
    assert_eq!(second["changed"], json!(true));
    assert_ne!(first["volid"], second["volid"]);
    assert_ne!(first["instance_id"], second["instance_id"]);
    let (name, _) = only_seed(&lab);
    assert_eq!(second["volid"], format!("local:iso/{name}"));
    assert_eq!(lab.config()["boot"], "order=scsi0;ide2");
    // In another drive, and back.
    lab.ok(with(seed(), json!({"drive": "sata1"})));
    assert_eq!(lab.config().get("ide0"), None);
    assert!(lab.config()["sata1"].as_str().unwrap().contains("seed-101"));
    assert_eq!(lab.config()["boot"], "order=scsi0;ide2");
}

#[test]
fn new_content_reaches_a_running_vm_at_once() {
    let lab = Lab::new();
    lab.ok(seed());
    lab.post("/nodes/pve/qemu/101/status/start", &[]);
    let made = lab.ok(with(seed(), json!({"hostname": "web2"})));
    assert_eq!(made["restart_required"], json!(false));
    let now = lab.current_config();
    assert!(
        now["ide0"]
            .as_str()
            .unwrap()
            .starts_with(made["volid"].as_str().unwrap()),
        "{now:#}"
    );
    assert_eq!(
        (&now["boot"], &lab.config()["boot"]),
        (&json!("order=scsi0;ide2"), &json!("order=scsi0;ide2"))
    );
    // A drive that is new comes with the next start.
    lab.ok(absent());
    lab.post("/nodes/pve/qemu/101/status/stop", &[]);
    lab.post("/nodes/pve/qemu/101/status/start", &[]);
    assert_eq!(lab.ok(seed())["restart_required"], json!(true));
    assert_eq!(lab.unchanged(seed())["restart_required"], json!(true));
}

#[test]
fn absent_leaves_nothing() {
    let lab = Lab::new();
    lab.unchanged(absent());
    lab.ok(seed());
    lab.put_iso("nixos-proxmox-seed-101-000000000000.iso");
    lab.put_iso("nixos-proxmox-seed-1010-000000000000.iso");
    lab.configure(&[
        ("ciuser", "root"),
        ("ipconfig0", "ip=dhcp"),
        ("nameserver", "10.77.0.1"),
        ("ciupgrade", "0"),
    ]);
    assert_eq!(lab.check(absent())["changed"], json!(true));
    let removed = lab.ok(absent());
    assert_eq!(removed["changed"], json!(true));
    assert_eq!(
        lab.seeds().into_keys().collect::<Vec<_>>(),
        ["nixos-proxmox-seed-1010-000000000000.iso"]
    );
    let config = lab.config();
    for key in ["ide0", "ciuser", "ipconfig0", "nameserver", "ciupgrade"] {
        assert_eq!(config.get(key), None, "{config:#}");
    }
    assert_eq!(config["boot"], "order=scsi0;ide2");
    assert!(
        config["ide2"]
            .as_str()
            .unwrap()
            .starts_with("local:iso/nixos.iso")
    );
    lab.unchanged(absent());
}

#[test]
fn absent_takes_the_medium_out_of_a_running_vm() {
    let lab = Lab::new();
    lab.ok(seed());
    lab.post("/nodes/pve/qemu/101/status/start", &[]);
    let removed = lab.ok(absent());
    assert_eq!(
        (&removed["changed"], &removed["restart_required"]),
        (&json!(true), &json!(true))
    );
    assert!(lab.seeds().is_empty());
    assert_eq!(lab.current_config()["ide0"], "none,media=cdrom");
    assert_eq!(lab.config().get("ide0"), None);
    assert_eq!(lab.config()["boot"], "order=scsi0;ide2");
    lab.unchanged(absent());
    lab.post("/nodes/pve/qemu/101/status/stop", &[]);
    assert_eq!(lab.current_config().get("ide0"), None);
    assert_eq!(lab.unchanged(absent())["restart_required"], json!(false));
}

#[test]
fn a_vm_that_is_gone_leaves_no_seed_behind() {
    let lab = Lab::new();
    lab.ok(seed());
    lab.delete("/nodes/pve/qemu/101");
    assert_eq!(lab.seeds().len(), 1, "Proxmox VE keeps ISOs");
    let removed = lab.ok(absent());
    assert_eq!(removed["changed"], json!(true));
    assert!(lab.seeds().is_empty());
    assert!(
        lab.unchanged(absent())["msg"]
            .as_str()
            .unwrap()
            .contains("VM 101 does not exist")
    );
    let missing = lab.fails(seed());
    assert_eq!(missing["error"]["kind"], "not_found");
    assert!(missing["msg"].as_str().unwrap().contains("101"));
}

#[test]
fn an_interrupted_run_is_finished_by_the_next() {
    let lab = Lab::new();
    // The seed is uploaded, then nothing goes any more.
    lab.faults(json!([{"method": "PUT", "path": "/nodes/pve/qemu/101/config", "action": "status", "status": 500}]));
    let cut = lab.fails(seed());
    assert_eq!(cut["changed"], json!(true), "{cut:#}");
    assert_eq!((lab.seeds().len(), lab.config().get("ide0")), (1, None));
    lab.faults(json!([]));
    // Without the seed, which is found by its name.
    assert_eq!(lab.ok(absent())["changed"], json!(true));
    assert!(lab.seeds().is_empty());
}

#[test]
fn a_lost_answer_is_settled_by_looking() {
    let lab = Lab::new();
    let boot = lab.config().get("boot").cloned();
    for fault in ["drop-after", "596-after-effect", "drop-before"] {
        for (method, path) in [
            ("POST", "/nodes/pve/storage/local/upload"),
            ("PUT", "/nodes/pve/qemu/101/config"),
        ] {
            lab.faults(json!([{"method": method, "path": path, "nth": 1, "action": fault}]));
            let made = lab.ok(seed());
            assert_eq!(made["changed"], json!(true), "{fault} {path}: {made:#}");
            assert_eq!(made["volid"], format!("local:iso/{}", only_seed(&lab).0));
            assert_eq!(lab.config().get("boot"), boot.as_ref(), "{fault} {path}");
            lab.unchanged(seed());
            lab.faults(json!([
                {"method": "PUT", "path": "/nodes/pve/qemu/101/config", "nth": 1, "action": fault},
                {"method": "DELETE", "path": "*/content/*", "nth": 1, "action": fault},
            ]));
            let gone = lab.ok(absent());
            assert_eq!(gone["changed"], json!(true), "{fault}: {gone:#}");
            assert!(lab.seeds().is_empty() && lab.config().get("ide0").is_none());
        }
    }
}

#[test]
fn a_failed_upload_attaches_nothing() {
    let lab = Lab::new();
    lab.faults(json!([{"path": "/nodes/pve/storage/local/upload", "action": "task-fail", "message": "disk full"}]));
    let failed = lab.fails(seed());
    assert!(
        failed["msg"].as_str().unwrap().contains("disk full"),
        "{failed:#}"
    );
    assert_eq!(lab.config().get("ide0"), None);
    assert!(!failed.to_string().contains("correct-horse"));
    lab.faults(json!([]));
    lab.ok(seed());
}

#[test]
fn a_missing_privilege_is_explained() {
    let lab = Lab::new();
    lab.ok(seed());
    lab.faults(
        json!([{"method": "DELETE", "path": "*/content/*", "action": "status", "status": 403}]),
    );
    let failed = lab.fails(absent());
    assert!(
        failed["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("Datastore.Allocate on /storage/local"),
        "{failed:#}"
    );
    assert_eq!(failed["changed"], json!(true));
    lab.faults(json!([]));
    assert_eq!(lab.ok(absent())["changed"], json!(true));
    assert!(lab.seeds().is_empty());
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    let lab = Lab::new();
    let cases = [
        (json!({"storage": "noiso"}), "noiso"),
        (json!({"storage": "off"}), "off"),
        (json!({"storage": "nope"}), "nope"),
        (json!({"drive": "ide2"}), "local:iso/nixos.iso"),
        (json!({"drive": "virtio0"}), "virtio0"),
        (json!({"ciuser": "root"}), "ciuser"),
        (json!({"ipconfig": {"ipconfig1": "ip=dhcp"}}), "net1"),
        (
            json!({"ipconfig": {"ipconfig0": "ip=10.77.0.11"}}),
            "10.77.0.11",
        ),
        (json!({"ipconfig": null}), "nameservers: needs ipconfig"),
        (json!({"user_data": "#!/bin/sh\n"}), "user_data is a text"),
        (
            json!({"vendor_data": "packages: [correct-horse]\n"}),
            "vendor_data: begins with nothing that cloud-init knows",
        ),
        (
            json!({"vendor_data": "#cloud-config\na: [correct-horse\n"}),
            "vendor_data: line 3: not valid YAML",
        ),
        (json!({"hostname": "web_1"}), "web_1"),
        (
            json!({"ssh_host_keys": {"ed25519": {"private": "not a key"}}}),
            "ed25519",
        ),
        (
            json!({"ssh_host_keys": {"ed25519": {"private_file": "/nonexistent/key"}}}),
            "/nonexistent/key",
        ),
    ];
    lab.refuses(&seed(), &cases);
}

#[test]
fn host_keys_come_from_files() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&path)
        .status()
        .expect("ssh-keygen");
    assert!(made.success());
    let file = with(
        seed(),
        json!({"ssh_host_keys": {"ed25519": {
        "private_file": path, "public_file": path.with_extension("pub")}}}),
    );
    let made = lab.ok(file);
    let private = std::fs::read_to_string(&path).unwrap();
    let inline = with(
        seed(),
        json!({"ssh_host_keys": {"ed25519": {"private": private}}}),
    );
    let user_data = String::from_utf8(only_seed(&lab).1["user-data"].clone()).unwrap();
    assert!(
        user_data.contains("/etc/ssh/ssh_host_ed25519_key\n")
            && user_data.contains("ssh_deletekeys: false")
    );
    let secret = private.lines().nth(1).unwrap();
    assert!(!made.to_string().contains(secret));
    assert!(!lab.ok(inline).to_string().contains(secret));
    // The public key beside it counts if no other is named.
    let alone = with(
        seed(),
        json!({"ssh_host_keys": {"ed25519": {"private_file": path}}}),
    );
    lab.ok(alone.clone());
    let public = path.with_extension("pub");
    std::fs::write(&public, "no key\n").unwrap();
    lab.ok(alone);
    let other =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICbwJRSzG8/hfEIsukjgNGOMrCk932rsLtiSGObvBjg1 me\n";
    std::fs::write(&public, other).unwrap();
    let case = json!({"ssh_host_keys": {"ed25519": {"private_file": path}}});
    let words = format!("{} holds the public key of another key", public.display());
    lab.refuses(&seed(), &[(case, words.as_str())]);
}

/// The network-config of the one seed.
fn network(lab: &Lab) -> String {
    String::from_utf8(only_seed(lab).1["network-config"].clone()).unwrap()
}

#[test]
fn a_fixed_address_without_name_servers_has_the_nodes() {
    let lab = Lab::new();
    let bare = with(seed(), json!({"nameservers": null, "searchdomains": null}));
    let made = lab.ok(bare.clone());
    assert_eq!(made.get("warnings"), None, "{made:#}");
    assert!(network(&lab).contains("10.77.0.1") && network(&lab).contains("pve.test"));
    lab.unchanged(bare.clone());
    // With DHCP the network says it.
    lab.ok(with(
        bare.clone(),
        json!({"ipconfig": {"ipconfig0": "ip=dhcp"}}),
    ));
    assert!(!network(&lab).contains("pve.test"));
    // A resolver on the node itself is of no use to a guest.
    std::fs::write(
        lab.path("pve/nodes.json"),
        r#"{"pve": {"dns": {"dns1": "127.0.0.53"}}}"#,
    )
    .unwrap();
    let made = lab.ok(bare);
    assert!(
        made["warnings"][0]
            .as_str()
            .unwrap()
            .contains("no name server"),
        "{made:#}"
    );
    assert!(!network(&lab).contains("127.0.0.53"));
}

#[test]
fn a_clone_gets_its_own_seed_and_leaves_the_templates() {
    let lab = Lab::new();
    let made = lab.ok(seed());
    lab.post(
        "/nodes/pve/qemu/101/clone",
        &[("newid", "202"), ("name", "clone"), ("full", "1")],
    );
    let clone = |lab: &Lab| lab.get("/nodes/pve/qemu/202/config");
    assert!(clone(&lab)["ide0"].as_str().unwrap().contains("seed-101-"));
    // The template's seed changes: the clone keeps the one that it has.
    let changed = lab.ok(with(seed(), json!({"hostname": "web2"})));
    assert!(
        changed["warnings"][0]
            .as_str()
            .unwrap()
            .contains("VM 202 has it"),
        "{changed:#}"
    );
    assert_eq!(lab.seeds().len(), 2);
    lab.unchanged(with(seed(), json!({"hostname": "web2"})));
    // The clone gets one of its own, and now nobody has the old one.
    let own = with(
        seed(),
        json!({"vmid": 202, "hostname": "clone", "ipconfig": {"ipconfig0": "ip=10.77.0.12/24"}}),
    );
    let own_made = lab.ok(own.clone());
    assert!(
        clone(&lab)["ide0"].as_str().unwrap().contains("seed-202-"),
        "{own_made:#}"
    );
    lab.unchanged(own);
    lab.ok(with(seed(), json!({"hostname": "web2"})));
    let names: Vec<String> = lab.seeds().into_keys().collect();
    assert!(
        names.len() == 2
            && !names
                .iter()
                .any(|name| made["volid"].as_str().unwrap().ends_with(name)),
        "{names:?}"
    );
}

#[test]
fn absent_takes_the_templates_seed_out_of_a_clone() {
    let lab = Lab::new();
    lab.ok(seed());
    lab.post(
        "/nodes/pve/qemu/101/clone",
        &[("newid", "202"), ("name", "clone"), ("full", "1")],
    );
    let clone_absent = with(absent(), json!({"vmid": 202}));
    assert_eq!(lab.ok(clone_absent.clone())["changed"], json!(true));
    assert_eq!(lab.get("/nodes/pve/qemu/202/config").get("ide0"), None);
    assert_eq!(lab.seeds().len(), 1, "the ISO is the template's");
    lab.unchanged(clone_absent);
    // A native drive takes its place as well.
    lab.post(
        "/nodes/pve/qemu/101/clone",
        &[("newid", "203"), ("name", "clone3"), ("full", "1")],
    );
    lab.ok(json!({"node": "pve", "vmid": 203, "kind": "native", "drive": "ide3", "storage": "local-zfs", "ciuser": "root"}));
}
