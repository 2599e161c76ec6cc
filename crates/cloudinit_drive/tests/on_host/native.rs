//! Proxmox VE's own cloud-init drive on a test host.

use crate::lab::{KEY, Lab};
use module_lab::with;
use serde_json::{Value, json};

fn native() -> Value {
    json!({
        "node": "pve", "vmid": 101, "kind": "native", "drive": "ide0", "storage": "local-zfs", "ciuser": "root",
        "cipassword": "correct-horse-battery", "sshkeys": format!("{KEY}\n"), "nameservers": ["10.77.0.1"],
        "ipconfig": {"ipconfig0": {"ip": "10.77.0.11/24", "gw": "10.77.0.1"}},
    })
}

#[test]
fn made_once_with_its_options() {
    let lab = Lab::new();
    assert_eq!(lab.check(native())["changed"], json!(true));
    let made = lab.ok(native());
    assert_eq!(made["changed"], json!(true));
    let config = lab.config();
    assert!(
        config["ide0"]
            .as_str()
            .unwrap()
            .contains("vm-101-cloudinit"),
        "{config:#}"
    );
    assert!(
        made["volid"].as_str().unwrap().contains("vm-101-cloudinit"),
        "{made:#}"
    );
    assert_eq!(config["boot"], "order=scsi0;ide2");
    assert_eq!(config["ciuser"], "root");
    assert_eq!(config["ipconfig0"], "ip=10.77.0.11/24,gw=10.77.0.1");
    assert_eq!(config["nameserver"], "10.77.0.1");
    assert_eq!(config["ciupgrade"].to_string().trim_matches('"'), "0");
    assert_eq!(
        config["sshkeys"],
        KEY.replace(' ', "%20")
            .replace('@', "%40")
            .replace('/', "%2F")
            .replace('+', "%2B")
    );
    let user_data = lab
        .get("/nodes/pve/qemu/101/cloudinit/dump?type=user")
        .to_string();
    assert!(
        user_data.contains("$6$") && !user_data.contains("correct-horse"),
        "{user_data}"
    );
    assert!(user_data.contains("me@here"));
    assert!(!made.to_string().contains("correct-horse"), "{made:#}");

    lab.unchanged(native());
    let other = lab.ok(with(
        native(),
        json!({"cipassword": "tr0ub4dor", "ciuser": "nixos"}),
    ));
    assert_eq!(other["diff"]["after"]["ciuser"], "nixos");
    assert!(!other.to_string().contains("$6$"), "{other:#}");
    lab.unchanged(with(
        native(),
        json!({"cipassword": "tr0ub4dor", "ciuser": "nixos"}),
    ));
}

#[test]
fn absent_leaves_nothing() {
    let lab = Lab::new();
    lab.ok(native());
    let absent = json!({"node": "pve", "vmid": 101, "kind": "native", "storage": "local-zfs", "state": "absent"});
    assert_eq!(lab.ok(absent.clone())["changed"], json!(true));
    let config = lab.config();
    for key in [
        "ide0",
        "ciuser",
        "cipassword",
        "sshkeys",
        "ipconfig0",
        "nameserver",
        "ciupgrade",
        "unused0",
    ] {
        assert_eq!(config.get(key), None, "{config:#}");
    }
    let volumes = lab.get("/nodes/pve/storage/local-zfs/content").to_string();
    assert!(!volumes.contains("cloudinit"), "{volumes}");
    lab.unchanged(absent);
}

#[test]
fn one_kind_replaces_the_other() {
    let lab = Lab::new();
    let nocloud = json!({"node": "pve", "vmid": 101, "storage": "local", "drive": "ide0", "hostname": "web1"});
    lab.ok(nocloud.clone());
    lab.ok(native());
    assert!(lab.seeds().is_empty());
    assert!(
        lab.config()["ide0"]
            .as_str()
            .unwrap()
            .contains("vm-101-cloudinit")
    );
    lab.ok(nocloud.clone());
    assert_eq!(lab.seeds().len(), 1);
    assert!(lab.config()["ide0"].as_str().unwrap().contains("seed-101"));
    assert!(
        !lab.get("/nodes/pve/storage/local-zfs/content")
            .to_string()
            .contains("cloudinit")
    );
    assert_eq!(lab.config()["boot"], "order=scsi0;ide2");
    lab.unchanged(nocloud);
}

#[test]
fn an_empty_password_is_none() {
    let lab = Lab::new();
    lab.ok(native());
    assert!(lab.config().get("cipassword").is_some());
    let without = with(native(), json!({"cipassword": ""}));
    assert_eq!(lab.ok(without.clone())["changed"], json!(true));
    assert_eq!(lab.config().get("cipassword"), None);
    lab.unchanged(without);
}

#[test]
fn a_seed_that_an_interrupted_run_left_goes_with_the_next() {
    let lab = Lab::new();
    lab.ok(json!({"node": "pve", "vmid": 101, "storage": "local", "drive": "ide0", "hostname": "web1"}));
    lab.faults(
        json!([{"method": "DELETE", "path": "*/content/*", "action": "status", "status": 500}]),
    );
    lab.fails(native());
    assert_eq!(lab.seeds().len(), 1);
    lab.faults(json!([]));
    assert_eq!(lab.ok(native())["changed"], json!(true));
    assert!(lab.seeds().is_empty());
    lab.unchanged(native());
}

#[test]
fn a_running_vm_gets_new_content() {
    let lab = Lab::new();
    lab.ok(native());
    lab.post("/nodes/pve/qemu/101/status/start", &[]);
    lab.ok(with(native(), json!({"ciuser": "nixos"})));
    lab.unchanged(with(native(), json!({"ciuser": "nixos"})));
    let absent = json!({"node": "pve", "vmid": 101, "kind": "native", "state": "absent"});
    assert_eq!(lab.ok(absent.clone())["restart_required"], json!(true));
    assert_eq!(lab.current_config()["ide0"], "none,media=cdrom");
    lab.unchanged(absent);
}

#[test]
fn what_cannot_be_is_refused() {
    let lab = Lab::new();
    let cases = [
        (json!({"storage": "noimages"}), "noimages"),
        (json!({"hostname": "web1"}), "hostname"),
        (json!({"ipconfig": {"ipconfig0": "ip=nowhere"}}), "nowhere"),
        (
            json!({"sshkeys": "-----BEGIN OPENSSH PRIVATE KEY-----"}),
            "private key",
        ),
    ];
    lab.refuses(&native(), &cases);
}

#[test]
fn a_lost_answer_is_settled_by_looking() {
    let lab = Lab::new();
    let boot = lab.config().get("boot").cloned();
    for fault in ["drop-after", "596-after-effect", "drop-before"] {
        for nth in 1..=3 {
            let put = json!([{"method": "PUT", "path": "/nodes/pve/qemu/101/*", "nth": nth, "action": fault}]);
            lab.faults(put.clone());
            let made = lab.ok(native());
            assert_eq!(made["changed"], json!(true), "{fault} {nth}: {made:#}");
            assert_eq!(lab.config().get("boot"), boot.as_ref(), "{fault} {nth}");
            lab.unchanged(native());
            lab.faults(put);
            let gone = lab.ok(with(native(), json!({"state": "absent"})));
            assert_eq!(gone["changed"], json!(true), "{fault} {nth}: {gone:#}");
            assert_eq!(lab.config().get("ide0"), None);
            assert_eq!(lab.config().get("sshkeys"), None);
            lab.faults(json!([]));
        }
    }
}

#[test]
fn every_option_can_be_taken_away_again() {
    let lab = Lab::new();
    let all = with(
        native(),
        json!({"citype": "nocloud", "searchdomains": ["example.org"], "ipconfig": {"ipconfig0": "ip=dhcp", "ipconfig1": "ip=dhcp"}}),
    );
    lab.configure(&[("net1", "virtio=BC:24:11:00:00:0C,bridge=vmbr0")]);
    lab.ok(all);
    let none = json!({
        "node": "pve", "vmid": 101, "kind": "native", "drive": "ide0", "storage": "local-zfs", "ciuser": "", "cipassword": "",
        "sshkeys": "", "nameservers": [], "searchdomains": [], "citype": "", "ipconfig": {"ipconfig0": "", "ipconfig1": ""},
    });
    lab.ok(none.clone());
    let config = lab.config();
    for key in [
        "ciuser",
        "cipassword",
        "sshkeys",
        "nameserver",
        "searchdomain",
        "citype",
        "ipconfig0",
        "ipconfig1",
    ] {
        assert_eq!(config.get(key), None, "{config:#}");
    }
    lab.unchanged(none);
}

#[test]
fn nothing_of_a_native_drive_is_left_by_a_seed() {
    let lab = Lab::new();
    lab.ok(native());
    let nocloud = json!({"node": "pve", "vmid": 101, "storage": "local", "drive": "ide0", "hostname": "web1"});
    lab.ok(nocloud.clone());
    let config = lab.config();
    for key in [
        "ciuser",
        "cipassword",
        "sshkeys",
        "nameserver",
        "ipconfig0",
        "ciupgrade",
    ] {
        assert_eq!(config.get(key), None, "{config:#}");
    }
    lab.unchanged(nocloud);
    lab.ok(native());
    assert!(lab.seeds().is_empty());
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("pve/storage/local/snippets")).unwrap();
    std::fs::write(
        lab.path("pve/storage/local/snippets/u.yaml"),
        "#cloud-config\n",
    )
    .unwrap();
    let cases = [
        (
            json!({"cipassword": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"}),
            "hashed_passwd in user_data",
        ),
        (
            json!({"sshkeys": format!("{KEY}\n\nssh-ed25519 AAAAC3Nz... me\n")}),
            "sshkeys: line 3 has a key that is not base64",
        ),
        (
            json!({"nameservers": ["dns.example.org"]}),
            "is not an IP address",
        ),
    ];
    lab.refuses(&native(), &cases);
    lab.configure(&[("cicustom", "user=local:snippets/u.yaml")]);
    lab.refuses(
        &native(),
        &[(json!({}), "does not use ciuser, sshkeys, cipassword")],
    );
}

#[test]
fn an_aarch64_machine_has_its_drive_on_scsi() {
    let lab = Lab::new();
    let path = lab.path("pve/qemu-server/101.conf");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("arch: aarch64\n{config}")).unwrap();
    let seed = json!({"node": "pve", "vmid": 101, "storage": "local", "hostname": "web1"});
    assert_eq!(lab.ok(seed.clone())["drive"], "scsi1");
    assert_eq!(lab.unchanged(seed.clone())["drive"], "scsi1");
    let refused = lab.fails(with(seed.clone(), json!({"drive": "ide0"})));
    assert!(
        refused["msg"].as_str().unwrap().contains("no IDE"),
        "{refused:#}"
    );
    assert_eq!(
        lab.ok(with(seed, json!({"state": "absent"})))["changed"],
        json!(true)
    );
    assert!(lab.seeds().is_empty());
}
