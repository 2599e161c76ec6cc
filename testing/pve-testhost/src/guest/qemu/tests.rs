use std::collections::BTreeMap;

use super::*;
use crate::guest::address::Address;

const TCG: Host = Host {
    kvm: false,
    cpus: 2,
};

fn vm(config: &[(&str, &str)]) -> VmSpec {
    let config: Config = config
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let volumes = config
        .iter()
        .filter(|(key, value)| drive_key(key).is_some() && !value.starts_with("none"))
        .map(|(key, _)| (key.clone(), format!("/data/{key}.raw").into()))
        .collect();
    VmSpec {
        vmid: 101,
        name: "web1".into(),
        config,
        volumes,
        run_dir: "/run/101".into(),
    }
}

fn line(config: &[(&str, &str)], host: Host) -> String {
    let vm = vm(config);
    let nics: Vec<_> = indexed(&vm.config, "net")
        .iter()
        .map(|(index, ..)| Nic {
            index: *index,
            model: "virtio-net-pci".into(),
            mac: format!("BC:24:11:00:00:{index:02X}"),
            link_down: false,
            address: Address::parse("10.77.0.11/24", Some("10.77.0.1")).unwrap(),
            tap: None,
        })
        .collect();
    let forwards = [Forward {
        host_port: 2222,
        guest_port: 22,
    }];
    let arguments = arguments(&vm, &nics, &forwards, host).unwrap();
    // One option with its value a line.
    arguments.join(" ").replace(" -", "\n-")
}

#[test]
fn the_usual_machine() {
    insta::assert_snapshot!(line(
        &[
            ("agent", "enabled=1"),
            ("boot", "order=scsi0;ide2"),
            ("cores", "4"),
            ("ide0", "local:iso/seed.iso,media=cdrom,size=374K"),
            ("ide2", "local:iso/installer.iso,media=cdrom,size=35M"),
            ("memory", "384"),
            ("name", "web1"),
            ("net0", "virtio=BC:24:11:00:00:00,bridge=vmbr0"),
            (
                "scsi0",
                "local-zfs:101/vm-101-disk-0.raw,discard=on,iothread=1,size=8G,ssd=1"
            ),
            ("scsihw", "virtio-scsi-single"),
            ("serial0", "socket"),
            ("smbios1", "uuid=0d7a3c0e-7b0a-4a51-8a2a-3c8f6f1a0b11"),
            ("vga", "serial0"),
            ("vmgenid", "dc97c92d-8139-4fec-afbe-b342e056e7f5"),
        ],
        TCG
    ));
}

#[test]
fn every_bus_and_an_empty_drive() {
    insta::assert_snapshot!(line(
        &[
            ("boot", "order=virtio0;net0"),
            ("ide2", "none,media=cdrom"),
            ("machine", "q35"),
            ("memory", "current=1024"),
            ("net0", "virtio=BC:24:11:00:00:00,bridge=vmbr0"),
            ("net7", "virtio=BC:24:11:00:00:07,bridge=vmbr0"),
            ("rng0", "source=/dev/urandom"),
            ("sata1", "local:101/vm-101-disk-2.raw,serial=abc,size=1G"),
            ("scsi1", "local:iso/x.iso,media=cdrom"),
            ("scsi2", "local:101/vm-101-disk-1.raw,cache=unsafe,size=1G"),
            ("scsihw", "virtio-scsi-pci"),
            ("sockets", "3"),
            ("virtio0", "local:101/vm-101-disk-0.raw,size=1G"),
            ("virtio9", "local:101/vm-101-disk-3.raw,ro=1,size=1G"),
        ],
        Host { kvm: true, cpus: 8 }
    ));
}

#[test]
fn smbios_values_may_be_encoded() {
    assert_eq!(
        smbios_type_1("uuid=0d7a3c0e-7b0a-4a51-8a2a-3c8f6f1a0b11,serial=ZHM9bm9jbG91ZCxh,base64=1"),
        "type=1,uuid=0d7a3c0e-7b0a-4a51-8a2a-3c8f6f1a0b11,serial=ds=nocloud,,a"
    );
}

#[test]
fn boot_orders() {
    let order = |config: &[(&str, &str)]| BootOrder::of(&vm(config).config).0.join(";");
    let drives = [
        ("ide2", "none,media=cdrom"),
        ("scsi0", "a:b"),
        ("net0", "virtio=.."),
    ];
    assert_eq!(order(&drives), "scsi0;ide2;net0");
    let with = |boot| [&drives[..], &[("boot", boot)]].concat();
    assert_eq!(order(&with("order=ide2;scsi0")), "ide2;scsi0");
    assert_eq!(order(&with("dc")), "ide2;scsi0");
    assert_eq!(order(&with("legacy=n")), "net0");
    assert_eq!(order(&with(" ")), "");
}

#[test]
fn a_disk_without_a_file_is_refused() {
    let mut vm = vm(&[("scsi0", "local:101/vm-101-disk-0.raw")]);
    vm.volumes = BTreeMap::new();
    assert_eq!(
        arguments(&vm, &[], &[], TCG).unwrap_err(),
        "drive 'scsi0' has no volume"
    );
}

#[test]
fn formats() {
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str, content: &[u8]| {
        let file = directory.path().join(name);
        std::fs::write(&file, content).unwrap();
        Format::of(&file).unwrap()
    };
    assert_eq!(of("a.raw", b"QFI\xfb"), Format::Raw);
    assert_eq!(of("a.qcow2", b"QFI\xfb\0\0\0\x03"), Format::Qcow2);
    assert_eq!(of("vm-101-cloudinit.qcow2", &[0; 64]), Format::Raw);
}
