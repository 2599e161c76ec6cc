//! Seeds of our own on a test host.

use crate::lab::{KEY, NO_DRIVE, drives, lab, seeds};
use insta::assert_snapshot;
use module_lab::{Lab, failure, shown, with};
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
    let mut seeds = seeds(lab);
    assert_eq!(seeds.len(), 1, "{:?}", seeds.keys());
    let (name, bytes) = seeds.pop_first().unwrap();
    assert_eq!(iso::label(&bytes).unwrap(), "cidata");
    (name, iso::read(&bytes).unwrap())
}

#[test]
fn attached_once_with_its_content_and_the_boot_order_kept() {
    let lab = lab();
    let would = lab.would_change(seed());
    let made = lab.changed(seed());
    assert_eq!(would["volid"], made["volid"]);
    assert_eq!(would["instance_id"], made["instance_id"]);
    let (name, files) = only_seed(&lab);
    assert_eq!(made["volid"], format!("local:iso/{name}"));
    let config = lab.config(101);
    let drive = format!("local:iso/{name},media=cdrom");
    assert!(config["ide0"].as_str().unwrap().starts_with(&drive));
    assert_snapshot!(drives(&lab), @"
    ide0: local:iso/nixos-proxmox-seed-101-[hash].iso,media=cdrom,size=56K
    ide2: local:iso/nixos.iso,media=cdrom,size=64K
    boot: order=scsi0;ide2
    ");
    assert_snapshot!(shown(&made, "drive restart_required msg diff"), @"
    drive: ide0
    restart_required: false
    msg: VM 101 has the seed local:iso/nixos-proxmox-seed-101-[hash].iso in ide0: uploaded local:iso/nixos-proxmox-seed-101-[hash].iso; attached local:iso/nixos-proxmox-seed-101-[hash].iso as ide0
    diff:
    + ide0: local:iso/nixos-proxmox-seed-101-[hash].iso,media=cdrom
    + uploaded.meta-data: sha256:fd6a401eb69c
    + uploaded.network-config: sha256:403726fe8ab4
    + uploaded.user-data: sha256:51d935aa6290
    ");
    let text = |file: &str| String::from_utf8(files[file].clone()).unwrap();
    assert!(text("user-data").contains(KEY) && text("user-data").contains("hostname: web1"));
    assert!(text("network-config").contains("\"bc:24:11:00:00:0b\""));
    assert!(text("meta-data").contains(made["instance_id"].as_str().unwrap()));
    let again = lab.unchanged(seed());
    let which = ["volid", "instance_id"];
    assert_eq!(which.map(|key| &again[key]), which.map(|key| &made[key]));
}

#[test]
fn a_config_drive_takes_the_place_of_a_nocloud_drive() {
    let lab = lab();
    let first = lab.ok(seed());
    let config_drive = with(seed(), json!({"layout": "configdrive"}));
    let made = lab.ok(config_drive.clone());
    assert_ne!(made["volid"], first["volid"]);
    let (_, image) = seeds(&lab).pop_last().unwrap();
    assert_eq!(seeds(&lab).len(), 1);
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
    lab.changed(absent());
    assert!(seeds(&lab).is_empty());
}

#[test]
fn other_content_replaces_the_seed() {
    let lab = lab();
    let first = lab.ok(seed());
    let second = lab.changed(with(seed(), json!({"hostname": "web2"})));
    assert_ne!(first["volid"], second["volid"]);
    assert_ne!(first["instance_id"], second["instance_id"]);
    let (name, _) = only_seed(&lab);
    assert_eq!(second["volid"], format!("local:iso/{name}"));
    // In another drive, and back.
    lab.ok(with(seed(), json!({"drive": "sata1"})));
    assert_snapshot!(drives(&lab), @"
    ide2: local:iso/nixos.iso,media=cdrom,size=64K
    sata1: local:iso/nixos-proxmox-seed-101-[hash].iso,media=cdrom,size=56K
    boot: order=scsi0;ide2
    ");
}

#[test]
fn new_content_reaches_a_running_vm_at_once() {
    let lab = lab();
    lab.ok(seed());
    lab.power(101, "start");
    let made = lab.ok(with(seed(), json!({"hostname": "web2"})));
    assert_eq!(made["restart_required"], json!(false));
    let now = lab.current_config(101);
    assert!(
        now["ide0"]
            .as_str()
            .unwrap()
            .starts_with(made["volid"].as_str().unwrap())
    );
    assert_eq!(now["boot"], "order=scsi0;ide2");
    assert_snapshot!(drives(&lab), @"
    ide0: local:iso/nixos-proxmox-seed-101-[hash].iso,media=cdrom,size=56K
    ide2: local:iso/nixos.iso,media=cdrom,size=64K
    boot: order=scsi0;ide2
    ");
    // A drive that is new comes with the next start.
    lab.ok(absent());
    lab.power(101, "stop");
    lab.power(101, "start");
    assert_eq!(lab.ok(seed())["restart_required"], json!(true));
    assert_eq!(lab.unchanged(seed())["restart_required"], json!(true));
}

#[test]
fn absent_leaves_nothing() {
    let lab = lab();
    lab.unchanged(absent());
    lab.ok(seed());
    for left in ["101", "1010"] {
        let name = format!("nixos-proxmox-seed-{left}-000000000000.iso");
        std::fs::write(lab.stored(&name), [0; 2048]).unwrap();
    }
    lab.configure(
        101,
        &[
            ("ciuser", "root"),
            ("ipconfig0", "ip=dhcp"),
            ("nameserver", "10.77.0.1"),
            ("ciupgrade", "0"),
        ],
    );
    lab.would_change(absent());
    assert_snapshot!(shown(&lab.changed(absent()), "msg diff"), @r#"
    msg: VM 101 has no cloud-init drive: removed ciupgrade, ciuser, ipconfig0, nameserver; removed ide0; deleted local:iso/nixos-proxmox-seed-101-[hash].iso; deleted local:iso/nixos-proxmox-seed-101-[hash].iso
    diff:
    - ide0: local:iso/nixos-proxmox-seed-101-[hash].iso,media=cdrom,size=56K
    - ciupgrade: 0
    - ciuser: root
    - ipconfig0: ip=dhcp
    - nameserver: 10.77.0.1
    - seed ISOs: ["local:iso/nixos-proxmox-seed-101-[hash].iso","local:iso/nixos-proxmox-seed-101-[hash].iso"]
    "#);
    let left: Vec<String> = seeds(&lab).into_keys().collect();
    assert_eq!(left, ["nixos-proxmox-seed-1010-000000000000.iso"]);
    assert_eq!(drives(&lab), NO_DRIVE);
    lab.unchanged(absent());
}

#[test]
fn absent_takes_the_medium_out_of_a_running_vm() {
    let lab = lab();
    lab.ok(seed());
    lab.power(101, "start");
    assert_eq!(lab.changed(absent())["restart_required"], json!(true));
    assert!(seeds(&lab).is_empty());
    assert_eq!(lab.current_config(101)["ide0"], "none,media=cdrom");
    assert_eq!(drives(&lab), NO_DRIVE);
    lab.unchanged(absent());
    lab.power(101, "stop");
    assert_eq!(lab.current_config(101).get("ide0"), None);
    assert_eq!(lab.unchanged(absent())["restart_required"], json!(false));
}

#[test]
fn a_vm_that_is_gone_leaves_no_seed_behind() {
    let lab = lab();
    lab.ok(seed());
    lab.delete("/nodes/pve/qemu/101");
    assert_eq!(seeds(&lab).len(), 1, "Proxmox VE keeps ISOs");
    lab.changed(absent());
    assert!(seeds(&lab).is_empty());
    assert_snapshot!(shown(&lab.unchanged(absent()), "msg"), @"msg: VM 101 does not exist");
    assert_snapshot!(failure(&lab.fails(seed())), @"
    not_found: VM 101 does not exist
      create it first (proxmox_nixos_vm), or check vmid and that the API user has VM.Audit on it
    ");
}

#[test]
fn an_interrupted_run_is_finished_by_the_next() {
    let lab = lab();
    // The seed is uploaded, then nothing goes any more.
    lab.faults(json!([{"method": "PUT", "path": "/nodes/pve/qemu/101/config", "action": "status", "status": 500}]));
    let cut = lab.fails(seed());
    assert_eq!(cut["changed"], json!(true), "{cut:#}");
    assert_eq!((seeds(&lab).len(), lab.config(101).get("ide0")), (1, None));
    lab.faults(json!([]));
    // Without the seed, which is found by its name.
    lab.changed(absent());
    assert!(seeds(&lab).is_empty());
}

#[test]
fn a_lost_answer_is_settled_by_looking() {
    let lab = lab();
    let boot = lab.config(101).get("boot").cloned();
    for fault in ["drop-after", "596-after-effect", "drop-before"] {
        for (method, path) in [
            ("POST", "/nodes/pve/storage/local/upload"),
            ("PUT", "/nodes/pve/qemu/101/config"),
        ] {
            lab.faults(json!([{"method": method, "path": path, "nth": 1, "action": fault}]));
            let made = lab.changed(seed());
            assert_eq!(made["volid"], format!("local:iso/{}", only_seed(&lab).0));
            assert_eq!(lab.config(101).get("boot"), boot.as_ref(), "{fault} {path}");
            lab.unchanged(seed());
            lab.faults(json!([
                {"method": "PUT", "path": "/nodes/pve/qemu/101/config", "nth": 1, "action": fault},
                {"method": "DELETE", "path": "*/content/*", "nth": 1, "action": fault},
            ]));
            lab.changed(absent());
            assert!(seeds(&lab).is_empty() && lab.config(101).get("ide0").is_none());
        }
    }
}

#[test]
fn a_failed_upload_attaches_nothing() {
    let lab = lab();
    lab.faults(json!([{"path": "/nodes/pve/storage/local/upload", "action": "task-fail", "message": "disk full"}]));
    assert_snapshot!(failure(&lab.fails(seed())), @"
    task_failed: cannot upload the seed local:iso/nixos-proxmox-seed-101-[hash].iso: task imgcopy on pve failed: disk full
      its whole log: pvenode task log UPID:pve:[task]:imgcopy::root@pam!full:
    ");
    assert_eq!(lab.config(101).get("ide0"), None);
    lab.faults(json!([]));
    lab.ok(seed());
}

#[test]
fn a_missing_privilege_is_explained() {
    let lab = lab();
    lab.ok(seed());
    lab.faults(
        json!([{"method": "DELETE", "path": "*/content/*", "action": "status", "status": 403}]),
    );
    assert_snapshot!(failure(&lab.fails(absent())), @r#"
    permission_denied: cannot delete the seed ISO local:iso/nixos-proxmox-seed-101-[hash].iso, which may hold keys: DELETE /nodes/pve/storage/local/content/local%3Aiso%2Fnixos-proxmox-seed-101-[hash].iso: 403 got fault
      deleting an ISO needs Datastore.Allocate on /storage/local; Datastore.AllocateTemplate, with which it was uploaded, is not enough; root@pam!full lacks a privilege; see `pveum user permissions root@pam!full` on a node
      changed: ["removed ide0"]
    "#);
    lab.faults(json!([]));
    lab.changed(absent());
    assert!(seeds(&lab).is_empty());
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    let lab = lab();
    let cases = [
        json!({"storage": "noiso"}),
        json!({"storage": "off"}),
        json!({"storage": "nope"}),
        json!({"drive": "ide2"}),
        json!({"drive": "virtio0"}),
        json!({"ciuser": "root"}),
        json!({"ipconfig": {"ipconfig1": "ip=dhcp"}}),
        json!({"ipconfig": {"ipconfig0": "ip=10.77.0.11"}}),
        json!({"ipconfig": null}),
        json!({"user_data": "#!/bin/sh\n"}),
        json!({"vendor_data": "packages: [correct-horse]\n"}),
        json!({"vendor_data": "#cloud-config\na: [correct-horse\n"}),
        json!({"hostname": "web_1"}),
        json!({"ssh_host_keys": {"ed25519": {"private": "not a key"}}}),
        json!({"ssh_host_keys": {"ed25519": {"private_file": "/nonexistent/key"}}}),
    ];
    assert_snapshot!(lab.refuses_each(&seed(), cases), @r#"
    storage_unusable: storage noiso cannot be used for ISO images on node pve
      storages for ISO images that node pve can use now: local; a storage is missing from that list if it is disabled, not active, does not allow ISO images (Datacenter, Storage, Content), or if the API user lacks Datastore.Audit on it
    storage_unusable: storage off cannot be used for ISO images on node pve
      storages for ISO images that node pve can use now: local; a storage is missing from that list if it is disabled, not active, does not allow ISO images (Datacenter, Storage, Content), or if the API user lacks Datastore.Audit on it
    storage_unusable: storage nope cannot be used for ISO images on node pve
      storages for ISO images that node pve can use now: local; a storage is missing from that list if it is disabled, not active, does not allow ISO images (Datacenter, Storage, Content), or if the API user lacks Datastore.Audit on it
    in_use: ide2 of VM 101 is not a cloud-init drive, it holds local:iso/nixos.iso,media=cdrom,size=64K
      choose another drive, or remove this one first (proxmox_nixos_vm with remove_disks)
    invalid_option: drive: must be ide0 to ide3, sata0 to sata5 or scsi0 to scsi30 (got "virtio0")
    invalid_option: ciuser does not go with kind=nocloud; it is an option of kind=native
    invalid_option: ipconfig1 is for net1, which VM 101 does not have
      give the VM a NIC net1, or name the NIC that it has
    invalid_option: ipconfig0: ip: is not an IPv4 address with a prefix length (192.0.2.11/24), nor dhcp (got "10.77.0.11")
    invalid_option: nameservers: needs ipconfig, which says for which NIC
      give ipconfig, for example {ipconfig0: 'ip=dhcp'}, or put it into network_config
    invalid_option: user_data is a text, which is passed on as it is, so ssh_authorized_keys cannot be added to it; give user_data as a dictionary, or put them into the text
    invalid_option: vendor_data: begins with nothing that cloud-init knows (#cloud-config, #!, a MIME header, #include, ## template: jinja), so the guest would ignore it; give a dictionary, or begin the text with #cloud-config
    invalid_option: vendor_data: line 3: not valid YAML: while parsing a flow sequence, expected ',' or ']'
    invalid_option: hostname: must be letters, digits and dashes, in parts of at most 63 characters joined by dots (got "web_1")
    invalid_option: ssh_host_keys.ed25519: is not a private key in PEM (-----BEGIN ... PRIVATE KEY-----)
    file: cannot read /nonexistent/key for ssh_host_keys.ed25519: No such file or directory (os error 2)
    "#);
}

#[test]
fn host_keys_come_from_files() {
    let lab = lab();
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
    let of_another = with(
        seed(),
        json!({"ssh_host_keys": {"ed25519": {"private_file": path}}}),
    );
    assert_snapshot!(lab.refuses(of_another), @"
    invalid_option: ssh_host_keys.ed25519: [dir]/key.pub holds the public key of another key than [dir]/key
      restore the file that is wrong, or write the public key anew: ssh-keygen -y -f [dir]/key > [dir]/key.pub
    ");
}

/// The network-config of the one seed.
fn network(lab: &Lab) -> String {
    String::from_utf8(only_seed(lab).1["network-config"].clone()).unwrap()
}

#[test]
fn a_fixed_address_without_name_servers_has_the_nodes() {
    let lab = lab();
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
    assert_snapshot!(shown(&made, "warnings"), @r#"warnings: ["nameservers: VM 101 has a fixed address and no name server: node pve has none that a guest can reach; set nameservers, or grant Sys.Audit on /nodes/pve so that those of the node are taken"]"#);
    assert!(!network(&lab).contains("127.0.0.53"));
}

#[test]
fn a_clone_gets_its_own_seed_and_leaves_the_templates() {
    let lab = lab();
    let made = lab.ok(seed());
    lab.post(
        "/nodes/pve/qemu/101/clone",
        &[("newid", "202"), ("name", "clone"), ("full", "1")],
    );
    let clone = |lab: &Lab| lab.get("/nodes/pve/qemu/202/config");
    assert!(clone(&lab)["ide0"].as_str().unwrap().contains("seed-101-"));
    // The template's seed changes: the clone keeps the one that it has.
    let changed = lab.ok(with(seed(), json!({"hostname": "web2"})));
    assert_snapshot!(shown(&changed, "warnings"), @r#"warnings: ["local:iso/nixos-proxmox-seed-101-[hash].iso stays on its storage, because VM 202 has it in a drive"]"#);
    assert_eq!(seeds(&lab).len(), 2);
    lab.unchanged(with(seed(), json!({"hostname": "web2"})));
    // The clone gets one of its own, and now nobody has the old one.
    let own = with(
        seed(),
        json!({"vmid": 202, "hostname": "clone", "ipconfig": {"ipconfig0": "ip=10.77.0.12/24"}}),
    );
    lab.ok(own.clone());
    assert!(clone(&lab)["ide0"].as_str().unwrap().contains("seed-202-"));
    lab.unchanged(own);
    lab.ok(with(seed(), json!({"hostname": "web2"})));
    let names: Vec<String> = seeds(&lab).into_keys().collect();
    let first = made["volid"].as_str().unwrap();
    assert_eq!(names.len(), 2);
    assert!(!names.iter().any(|name| first.ends_with(name)), "{names:?}");
}

#[test]
fn absent_takes_the_templates_seed_out_of_a_clone() {
    let lab = lab();
    lab.ok(seed());
    lab.post(
        "/nodes/pve/qemu/101/clone",
        &[("newid", "202"), ("name", "clone"), ("full", "1")],
    );
    let clone_absent = with(absent(), json!({"vmid": 202}));
    lab.changed(clone_absent.clone());
    assert_eq!(lab.get("/nodes/pve/qemu/202/config").get("ide0"), None);
    assert_eq!(seeds(&lab).len(), 1, "the ISO is the template's");
    lab.unchanged(clone_absent);
    // A native drive takes its place as well.
    lab.post(
        "/nodes/pve/qemu/101/clone",
        &[("newid", "203"), ("name", "clone3"), ("full", "1")],
    );
    lab.ok(json!({"node": "pve", "vmid": 203, "kind": "native", "drive": "ide3", "storage": "local-zfs", "ciuser": "root"}));
}
