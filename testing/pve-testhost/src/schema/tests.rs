use super::*;

fn params(pairs: &[(&str, &str)]) -> Params {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn error(pairs: &[(&str, &str)], name: &str) -> String {
    let route = route("POST", "/nodes/pve/qemu").expect("create is in the table");
    let mut all = params(pairs);
    all.extend(route.params);
    all.entry("vmid".into()).or_insert("110".into());
    match route.endpoint.verify(&all) {
        Ok(()) => String::new(),
        Err(error) => error.errors.get(name).cloned().unwrap_or_default(),
    }
}

#[test]
fn texts_are_those_of_pve() {
    for (name, value, text) in [
        (
            "foo",
            "bar",
            "property is not defined in schema and the schema does not allow additional properties",
        ),
        (
            "vmid",
            "99",
            "invalid format - value does not look like a valid VM ID\n",
        ),
        (
            "memory",
            "abc",
            "invalid format - format error\nmemory.current: type check ('integer') failed - got 'abc'\n",
        ),
        (
            "memory",
            "1",
            "invalid format - format error\nmemory.current: value must have a minimum value of 16\n",
        ),
        ("cores", "0", "value must have a minimum value of 1"),
        (
            "name",
            "no_underscore",
            "invalid format - value does not look like a valid DNS name\n",
        ),
        (
            "scsi0",
            "local:1,foo=1",
            "invalid format - format error\nscsi0.foo: property is not defined in schema and the schema does not allow additional properties\n",
        ),
        (
            "sshkeys",
            "ssh-ed25519 AA",
            "invalid format - invalid urlencoded string: ssh-ed25519 AA\n",
        ),
        (
            "ipconfig0",
            "ip=300.1.1.1",
            "invalid format - format error\nipconfig0.ip: invalid format - value does not look like a valid ipv4 network configuration\n\n",
        ),
        (
            "net0",
            "nope",
            "invalid format - format error\nnet0.model: value 'nope' does not have a value in the enumeration 'e1000, e1000-82540em, e1000-82544gc, e1000-82545em, e1000e, i82551, i82557b, i82559er, ne2k_isa, ne2k_pci, pcnet, rtl8139, virtio, vmxnet3'\n",
        ),
        (
            "onboot",
            "true",
            "type check ('boolean') failed - got 'true'",
        ),
        ("onboot", "", "type check ('boolean') failed - got ''"),
        (
            "rng0",
            "urandom",
            "invalid format - format error\nrng0.source: value 'urandom' does not have a value in the enumeration '/dev/urandom, /dev/random, /dev/hwrng'\n",
        ),
        (
            "rng0",
            "/dev/urandom, period=1",
            "invalid format - format error\nrng0. period: property is not defined in schema and the schema does not allow additional properties\n",
        ),
        (
            "hostpci0",
            "mapping=gpu,pci=1",
            "invalid format - format error\nhostpci0.pci: property is not defined in schema and the schema does not allow additional properties\n",
        ),
    ] {
        assert_eq!(error(&[(name, value)], name), text, "{name}={value}");
    }
}

#[test]
fn good_values_pass() {
    for (name, value) in [
        ("scsi0", "local:32,discard=on,iothread=1,ssd=1"),
        ("ide2", "local:iso/x.iso,media=cdrom"),
        ("ide2", "none,media=cdrom"),
        ("net0", "virtio,bridge=vmbr0,firewall=1"),
        ("net0", "virtio=02:00:00:00:00:01,bridge=vmbr0"),
        ("agent", "enabled=1,fstrim_cloned_disks=1"),
        ("agent", "1"),
        ("boot", "order=scsi0;ide2"),
        ("boot", "cdn"),
        ("tags", "sp ace,ok"),
        ("ipconfig0", "ip=10.77.0.11/24,gw=10.77.0.1"),
        ("ipconfig0", "ip=dhcp,ip6=auto"),
        ("efidisk0", "local:1,efitype=4m,pre-enrolled-keys=1"),
        ("serial0", "socket"),
        ("vga", "serial0"),
        ("machine", "q35"),
        ("cpu", "x86-64-v2-AES"),
        ("cpu", "flags=+aes;-pcid,cputype=host"),
        ("hostpci0", "01:00;01:00.1,pcie=1,vendor-id=0x10de"),
        ("hostpci0", "mapping=gpu,x-vga=on"),
        ("watchdog", "action=reset"),
        ("cicustom", "user=local:snippets/user.yaml"),
    ] {
        let route = route("POST", "/nodes/pve/qemu").expect("create is in the table");
        let mut all = params(&[(name, value), ("vmid", "100")]);
        all.extend(route.params);
        assert!(
            route.endpoint.verify(&all).is_ok(),
            "{name}={value}: {:?}",
            route.endpoint.verify(&all)
        );
    }
}

#[test]
fn routes_prefer_literals_and_take_whole_volumes() {
    assert_eq!(
        route("GET", "/nodes/pve/qemu/100/status/current").map(|r| r.template),
        Some("/nodes/{node}/qemu/{vmid}/status/current")
    );
    let volume = route("GET", "/nodes/pve/storage/local/content/local:iso/x.iso").expect("content");
    assert_eq!(volume.params["volume"], "local:iso/x.iso");
    assert!(route("POST", "/version").is_none());
    assert!(route("POST", "/nodes/pve/qemu/131/status/bogus").is_none());
}
