//! Proxmox VE's own cloud-init drive on a test host.

use crate::lab::{KEY, NO_DRIVE, drives, lab, seeds};
use insta::assert_snapshot;
use module_lab::{shown, with};
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
    let lab = lab();
    lab.would_change(native());
    let made = lab.changed(native());
    assert_snapshot!(shown(&made, "volid drive restart_required"), @"
    volid: local-zfs:vm-101-cloudinit
    drive: ide0
    restart_required: false
    ");
    assert_snapshot!(drives(&lab), @"
    ide0: local-zfs:vm-101-cloudinit,media=cdrom
    ide2: local:iso/nixos.iso,media=cdrom,size=64K
    boot: order=scsi0;ide2
    ciuser: root
    cipassword: **********
    sshkeys: ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIPz6nYYnhYSNxX9pOeX5vY5mBxrYQf0Cm6bcHkMcvmq8%20me%40here
    nameserver: 10.77.0.1
    ciupgrade: 0
    ipconfig0: ip=10.77.0.11/24,gw=10.77.0.1
    ");
    let user_data = lab
        .get("/nodes/pve/qemu/101/cloudinit/dump?type=user")
        .to_string();
    assert!(
        user_data.contains("$6$") && !user_data.contains("correct-horse"),
        "{user_data}"
    );
    assert!(user_data.contains("me@here"));

    lab.unchanged(native());
    let other = with(
        native(),
        json!({"cipassword": "tr0ub4dor", "ciuser": "nixos"}),
    );
    let changed = lab.changed(other.clone());
    assert_snapshot!(shown(&changed, "msg diff"), @"
    msg: VM 101 has a native cloud-init drive in ide0: set ciuser, cipassword; wrote the cloud-init drive anew
    diff:
    - ciuser: root
    - cipassword: (set)
    + ciuser: nixos
    + cipassword: (set anew)
    + cloud-init drive: written anew
    ");
    assert!(!changed.to_string().contains("$6$"), "{changed:#}");
    lab.unchanged(other);
}

#[test]
fn absent_leaves_nothing() {
    let lab = lab();
    lab.ok(native());
    let absent = json!({"node": "pve", "vmid": 101, "kind": "native", "storage": "local-zfs", "state": "absent"});
    lab.changed(absent.clone());
    assert_eq!(drives(&lab), NO_DRIVE);
    let volumes = lab.get("/nodes/pve/storage/local-zfs/content").to_string();
    assert!(!volumes.contains("cloudinit"), "{volumes}");
    lab.unchanged(absent);
}

#[test]
fn one_kind_replaces_the_other() {
    let lab = lab();
    let nocloud = json!({"node": "pve", "vmid": 101, "storage": "local", "drive": "ide0", "hostname": "web1"});
    lab.ok(nocloud.clone());
    lab.ok(native());
    assert!(seeds(&lab).is_empty());
    assert!(drives(&lab).starts_with("ide0: local-zfs:vm-101-cloudinit,"));
    lab.ok(nocloud.clone());
    assert_eq!(seeds(&lab).len(), 1);
    assert_snapshot!(drives(&lab), @"
    ide0: local:iso/nixos-proxmox-seed-101-[hash].iso,media=cdrom,size=54K
    ide2: local:iso/nixos.iso,media=cdrom,size=64K
    boot: order=scsi0;ide2
    ");
    let volumes = lab.get("/nodes/pve/storage/local-zfs/content");
    assert!(!volumes.to_string().contains("cloudinit"));
    lab.unchanged(nocloud);
}

#[test]
fn an_empty_password_is_none() {
    let lab = lab();
    lab.ok(native());
    assert!(lab.config(101).get("cipassword").is_some());
    let without = with(native(), json!({"cipassword": ""}));
    lab.changed(without.clone());
    assert_eq!(lab.config(101).get("cipassword"), None);
    lab.unchanged(without);
}

#[test]
fn a_seed_that_an_interrupted_run_left_goes_with_the_next() {
    let lab = lab();
    lab.ok(json!({"node": "pve", "vmid": 101, "storage": "local", "drive": "ide0", "hostname": "web1"}));
    lab.faults(
        json!([{"method": "DELETE", "path": "*/content/*", "action": "status", "status": 500}]),
    );
    lab.fails(native());
    assert_eq!(seeds(&lab).len(), 1);
    lab.faults(json!([]));
    lab.changed(native());
    assert!(seeds(&lab).is_empty());
    lab.unchanged(native());
}

#[test]
fn a_running_vm_gets_new_content() {
    let lab = lab();
    lab.ok(native());
    lab.power(101, "start");
    lab.ok(with(native(), json!({"ciuser": "nixos"})));
    lab.unchanged(with(native(), json!({"ciuser": "nixos"})));
    let absent = json!({"node": "pve", "vmid": 101, "kind": "native", "state": "absent"});
    assert_eq!(lab.ok(absent.clone())["restart_required"], json!(true));
    assert_eq!(lab.current_config(101)["ide0"], "none,media=cdrom");
    lab.unchanged(absent);
}

#[test]
fn what_cannot_be_is_refused() {
    let lab = lab();
    let cases = [
        json!({"storage": "noimages"}),
        json!({"hostname": "web1"}),
        json!({"ipconfig": {"ipconfig0": "ip=nowhere"}}),
        json!({"sshkeys": "-----BEGIN OPENSSH PRIVATE KEY-----"}),
    ];
    assert_snapshot!(lab.refuses_each(&native(), cases), @r#"
    storage_unusable: storage noimages cannot be used for disk images on node pve
      storages for disk images that node pve can use now: local, local-zfs; a storage is missing from that list if it is disabled, not active, does not allow disk images (Datacenter, Storage, Content), or if the API user lacks Datastore.Audit on it
    invalid_option: hostname does not go with kind=native; it is an option of kind=nocloud
    invalid_option: ipconfig0: ip: is not an IPv4 address with a prefix length (192.0.2.11/24), nor dhcp (got "nowhere")
    invalid_option: sshkeys: holds a private key; give the public one
    "#);
}

#[test]
fn a_lost_answer_is_settled_by_looking() {
    let lab = lab();
    let boot = lab.config(101).get("boot").cloned();
    for fault in ["drop-after", "596-after-effect", "drop-before"] {
        for nth in 1..=3 {
            let put = json!([{"method": "PUT", "path": "/nodes/pve/qemu/101/*", "nth": nth, "action": fault}]);
            lab.faults(put.clone());
            lab.changed(native());
            assert_eq!(lab.config(101).get("boot"), boot.as_ref(), "{fault} {nth}");
            lab.unchanged(native());
            lab.faults(put);
            lab.changed(with(native(), json!({"state": "absent"})));
            assert_eq!(drives(&lab), NO_DRIVE);
            lab.faults(json!([]));
        }
    }
}

#[test]
fn every_option_can_be_taken_away_again() {
    let lab = lab();
    let all = with(
        native(),
        json!({"citype": "nocloud", "searchdomains": ["example.org"], "ipconfig": {"ipconfig0": "ip=dhcp", "ipconfig1": "ip=dhcp"}}),
    );
    lab.configure(101, &[("net1", "virtio=BC:24:11:00:00:0C,bridge=vmbr0")]);
    lab.ok(all);
    let none = json!({
        "node": "pve", "vmid": 101, "kind": "native", "drive": "ide0", "storage": "local-zfs", "ciuser": "", "cipassword": "",
        "sshkeys": "", "nameservers": [], "searchdomains": [], "citype": "", "ipconfig": {"ipconfig0": "", "ipconfig1": ""},
    });
    lab.ok(none.clone());
    assert!(drives(&lab).starts_with("ide0: local-zfs:vm-101-cloudinit,"));
    let left = drives(&lab).lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(left, format!("{NO_DRIVE}\nciupgrade: 0"));
    lab.unchanged(none);
}

#[test]
fn nothing_of_a_native_drive_is_left_by_a_seed() {
    let lab = lab();
    lab.ok(native());
    let nocloud = json!({"node": "pve", "vmid": 101, "storage": "local", "drive": "ide0", "hostname": "web1"});
    lab.ok(nocloud.clone());
    assert_snapshot!(drives(&lab), @"
    ide0: local:iso/nixos-proxmox-seed-101-[hash].iso,media=cdrom,size=54K
    ide2: local:iso/nixos.iso,media=cdrom,size=64K
    boot: order=scsi0;ide2
    ");
    lab.unchanged(nocloud);
    lab.ok(native());
    assert!(seeds(&lab).is_empty());
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let lab = lab();
    std::fs::create_dir_all(lab.path("pve/storage/local/snippets")).unwrap();
    std::fs::write(
        lab.path("pve/storage/local/snippets/u.yaml"),
        "#cloud-config\n",
    )
    .unwrap();
    let cases = [
        json!({"cipassword": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"}),
        json!({"sshkeys": format!("{KEY}\n\nssh-ed25519 AAAAC3Nz... me\n")}),
        json!({"nameservers": ["dns.example.org"]}),
    ];
    assert_snapshot!(lab.refuses_each(&native(), cases), @r#"
    invalid_option: cipassword: is a hash of a scheme that Proxmox VE hashes once more, so the password would never be accepted; give a SHA-512 hash (mkpasswd -m sha-512) or the password itself, or hashed_passwd in user_data with kind=nocloud
    invalid_option: sshkeys: line 3 has a key that is not base64 (shortened, or broken by a line break?); copy the whole line of the .pub file
    invalid_option: nameservers: "dns.example.org" is not an IP address
    "#);
    lab.configure(101, &[("cicustom", "user=local:snippets/u.yaml")]);
    assert_snapshot!(lab.refuses(native()), @"
    refused: VM 101: cicustom has a user-data of its own (user=local:snippets/u.yaml), so Proxmox VE does not use ciuser, sshkeys, cipassword
      remove cicustom (config in proxmox_nixos_vm; state: absent here removes it too), or leave ciuser, sshkeys, cipassword out
    ");
}

#[test]
fn an_aarch64_machine_has_its_drive_on_scsi() {
    let lab = lab();
    lab.edit(101, |config| format!("arch: aarch64\n{config}"));
    let seed = json!({"node": "pve", "vmid": 101, "storage": "local", "hostname": "web1"});
    assert_eq!(lab.ok(seed.clone())["drive"], "scsi1");
    assert_eq!(lab.unchanged(seed.clone())["drive"], "scsi1");
    let on_ide = with(seed.clone(), json!({"drive": "ide0"}));
    assert_snapshot!(lab.refuses(on_ide), @"
    invalid_option: drive: VM 101 is an aarch64 machine, which has no IDE (got ide0)
      set drive: scsi1, or leave it out
    ");
    lab.changed(with(seed, json!({"state": "absent"})));
    assert!(seeds(&lab).is_empty());
}
