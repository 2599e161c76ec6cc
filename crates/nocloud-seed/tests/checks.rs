//! What cloud-init would not take, or would read as something else, is refused before anybody boots on it.

use nocloud_seed::{Input, IpConfig, Layout, Nic, Payload, Seed};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz6nYYnhYSNxX9pOeX5vY5mBxrYQf0Cm6bcHkMcvmq8 me@here";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEj7rJ7eGfZ0VQ1Mfq9jY0mJ1YkTzqkzXv1dS8Cw3p0A two";
const YESCRYPT: &str = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7";

fn dict(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn with_user_data(own: Value) -> Input {
    Input {
        user_data: Some(match own {
            Value::String(text) => Payload::Text(text),
            own => Payload::Dict(dict(own)),
        }),
        ..Input::default()
    }
}

fn file(input: &Input, name: &str) -> Value {
    let seed = Seed::new(input).unwrap_or_else(|e| panic!("{e}"));
    serde_yaml_ng::from_slice(&seed.files()[name]).unwrap()
}

fn refusal(input: &Input) -> String {
    Seed::new(input).unwrap_err().to_string()
}

#[test]
fn a_name_given_anywhere_is_the_guests() {
    const PRESERVE: &str = "preserve_hostname";
    let user_data = |input: &Input| file(input, "user-data");
    for name in ["hostname", "fqdn"] {
        assert_eq!(
            user_data(&with_user_data(json!({name: "h1"}))),
            json!({name: "h1"})
        );
        for vendor in [
            Payload::Dict(dict(json!({name: "h1"}))),
            Payload::Text(format!("#cloud-config\n{name}: h1\n")),
        ] {
            let input = Input {
                vendor_data: Some(vendor),
                ..Input::default()
            };
            assert_eq!(user_data(&input).get(PRESERVE), None);
        }
    }
    for key in ["local-hostname", "hostname"] {
        let input = Input {
            meta_data: dict(json!({key: "h1"})),
            hostname: Some("other.example.org".into()),
            ..Input::default()
        };
        assert!(
            user_data(&input).get("hostname").is_none() && user_data(&input).get("fqdn").is_none()
        );
        let input = Input {
            hostname: None,
            ..input
        };
        assert_eq!(user_data(&input).get(PRESERVE), None);
    }
    // The user's own name is whole: no domain of the option's goes with it.
    let input = Input {
        hostname: Some("web1.example.org".into()),
        ..with_user_data(json!({"hostname": "h1"}))
    };
    assert_eq!(user_data(&input), json!({"hostname": "h1"}));
    // A name that is nothing is none.
    for nothing in [json!(null), json!("")] {
        let own = json!({"hostname": nothing, "fqdn": nothing});
        let input = Input {
            hostname: Some("web1".into()),
            ..with_user_data(own.clone())
        };
        assert_eq!(user_data(&input), json!({"hostname": "web1"}));
        assert_eq!(user_data(&with_user_data(own)), json!({PRESERVE: true}));
    }
    // Who asks for it has it, and so has who names nothing.
    assert_eq!(
        user_data(&with_user_data(json!({PRESERVE: false})))[PRESERVE],
        false
    );
    assert_eq!(
        user_data(&with_user_data(json!({"locale": "x"})))[PRESERVE],
        true
    );
}

#[test]
fn both_spellings_of_a_users_keys_are_one_list() {
    for (own, expected) in [
        (json!({"ssh-authorized-keys": [OTHER]}), json!([OTHER, KEY])),
        (json!({"ssh-authorized-keys": OTHER}), json!([OTHER, KEY])),
        (json!({"ssh_authorized_keys": OTHER}), json!([OTHER, KEY])),
        (
            json!({"ssh_authorized_keys": [KEY], "ssh-authorized-keys": [OTHER]}),
            json!([KEY, OTHER]),
        ),
        (json!({"ssh_authorized_keys": null}), json!([KEY])),
        (json!({"ssh_authorized-keys": [OTHER]}), json!([OTHER, KEY])),
        (
            json!({"ssh-authorized_keys": OTHER, "ssh_authorized-keys": [KEY, OTHER]}),
            json!([OTHER, KEY]),
        ),
    ] {
        let mut user = own;
        user["name"] = json!("root");
        let input = Input {
            authorized_keys: vec![KEY.into()],
            ..with_user_data(json!({"users": ["default", user]}))
        };
        let root = &file(&input, "user-data")["users"][1];
        assert_eq!(root["ssh_authorized_keys"], expected);
        assert_eq!(root.as_object().unwrap().len(), 2, "{root}");
    }
    // Another user's two lists are one too.
    let input = with_user_data(
        json!({"users": [{"name": "me", "ssh_authorized_keys": [KEY], "ssh-authorized-keys": [OTHER]}]}),
    );
    assert_eq!(
        file(&input, "user-data")["users"][0]["ssh_authorized_keys"],
        json!([KEY, OTHER])
    );
}

#[test]
fn what_cloud_inits_modules_do_not_take() {
    for (own, part) in [
        (
            json!({"runcmd": "reboot"}),
            "user_data.runcmd: must be a list",
        ),
        (
            json!({"runcmd": [{"echo \"a": "b\""}]}),
            "user_data.runcmd[0]: is a mapping, not a command",
        ),
        (
            json!({"bootcmd": [true]}),
            "user_data.bootcmd[0]: must be a text or a list of words",
        ),
        (
            json!({"runcmd": [["echo", {"a": 1}]]}),
            "user_data.runcmd[0][1]: must be a text",
        ),
        (
            json!({"write_files": [{"content": "x"}]}),
            "user_data.write_files[0]: has no path",
        ),
        (json!({"write_files": [{"path": "x"}]}), "absolute"),
        (
            json!({"write_files": [{"path": "/x", "content": {"a": 1}}]}),
            "content: is a mapping",
        ),
        (
            json!({"write_files": [{"path": "/x", "permissions": 644}]}),
            "the number 644 is the mode 01204; write the mode as a text ('0644')",
        ),
        (
            json!({"write_files": [{"path": "/x", "permissions": "u=rw"}]}),
            "octal mode",
        ),
        (
            json!({"write_files": [{"path": "/x", "encoding": "bz2"}]}),
            "encoding",
        ),
        (
            json!({"hostname": 12}),
            "user_data.hostname: must be a text",
        ),
        (
            json!({"hostname": "web 1"}),
            "user_data.hostname: must be letters, digits and dashes",
        ),
        (
            json!({"fqdn": "web_1..example.org"}),
            "user_data.fqdn: must be",
        ),
        (
            json!({"users": [{"passwd": "x"}]}),
            "user_data.users[0]: has no name",
        ),
        (
            json!({"users": [{"name": "a", "passwd": "geheim"}]}),
            "user_data.users[0].passwd: is not a password hash",
        ),
        (
            json!({"users": [{"name": "a", "hashed-passwd": "$6$salt$short"}]}),
            "shortened",
        ),
        (
            json!({"users": [{"name": "a", "plain_text_passwd": YESCRYPT}]}),
            "give it as hashed_passwd",
        ),
        (
            json!({"users": [{"name": "a", "ssh-authorized-keys": ["ssh-ed25519 AAAAC3Nz... me"]}]}),
            "ssh-authorized-keys[0]: has a key that is not base64",
        ),
        (
            json!({"users": [{"name": "a", "lock_passwd": true, "lock-passwd": false}]}),
            "lock_passwd are one key",
        ),
        (
            json!({"ssh_authorized_keys": "ssh-ed25519 x"}),
            "must be a list",
        ),
        (
            json!({"password": YESCRYPT}),
            "user_data.password: is a hash of a scheme",
        ),
        (
            json!({"chpasswd": {"list": format!("root:{YESCRYPT}\n")}}),
            "user_data.chpasswd.list: is a hash of a scheme",
        ),
        (
            json!({"chpasswd": {"users": [{"name": "root", "password": "geheim"}]}}),
            "type: text",
        ),
        (
            json!({"chpasswd": {"users": [{"name": "root", "password": YESCRYPT, "type": "text"}]}}),
            "use type: hash",
        ),
        (
            json!("#cloud-config\nruncmd:\n  - echo a: b\n"),
            "user_data: line 3: runcmd[0]: is a mapping",
        ),
        (
            json!("#cloud-config\nusers:\n  - name: a\n    passwd: geheim\n"),
            "user_data: line 4: users[0].passwd: is not a password hash",
        ),
        (
            json!("#cloud-config\npackages: [a]\nruncmd:\n  - [b]\nhostname: x\npackages: [c]\n"),
            "user_data: line 6: 'packages' is given twice (first in line 2)",
        ),
        (
            json!({"write-files": []}),
            "user_data.write-files: is not a key that cloud-init knows; did you mean write_files?",
        ),
        (
            json!({"ssh-authorized-keys": []}),
            "did you mean ssh_authorized_keys?",
        ),
        (json!({"Hostname": "a"}), "did you mean hostname?"),
        (
            json!({"users": [{"name": "a", "password": "x"}]}),
            "hashed_passwd or plain_text_passwd",
        ),
        (
            json!({"users": [{"name": "a", "ssh_authorized_key": []}]}),
            "did you mean ssh_authorized_keys?",
        ),
        (
            json!({"users": [{"name": "a", "plain-text-passwd": true}]}),
            "plain-text-passwd: must be a text",
        ),
        (
            json!({"users": {"a": {"ssh-authorized-keys": ["x"]}}}),
            "users.a.ssh-authorized-keys[0]: is not a public key",
        ),
        (
            json!({"user": {"name": "a", "ssh-authorized-keys": ["x"]}}),
            "user.ssh-authorized-keys[0]: is not a public key",
        ),
        (
            json!({"system_info": {"default_user": {"passwd": "geheim"}}}),
            "default_user.passwd: is not a password hash",
        ),
        (
            json!({"write_files": [{"path": "/x", "mode": "0600"}]}),
            "write_files[0].mode: is not a key that cloud-init knows; did you mean permissions?",
        ),
        (
            json!({"write_files": [{"path": "/x", "contents": "y"}]}),
            "did you mean content?",
        ),
        (
            json!({"write_files": [{"path": "/x", "content": 1}]}),
            "content: must be a text; quote it",
        ),
        (
            json!({"write_files": [{"path": "/x", "encoding": "b64", "content": "geheim!"}]}),
            "content: is not base64",
        ),
        (
            json!({"write_files": [{"path": "/x", "encoding": "b64", "content": "geheimni"}, {"path": "/y", "encoding": "base64", "content": "aGVsbG8"}]}),
            "write_files[1].content: lacks padding",
        ),
        (
            json!({"write_files": [{"path": "/x", "encoding": "b64", "content": "aGVsbG8==\n"}, {"path": "/y", "encoding": "b64", "content": "a_-b"}]}),
            "write_files[1].content: has characters of base64url",
        ),
        (
            json!({"write_files": [{"path": "/x", "encoding": "b64", "content": "hello, wor"}]}),
            "content: has characters that are not base64",
        ),
        (
            json!({"write_files": [{"path": "/x", "encoding": "b64", "content": "YQ==\nYQ==\n"}]}),
            "content: goes on after its padding",
        ),
        (
            json!({"write_files": [{"path": "/x", "encoding": "gz+b64", "content": "aGVsbG8="}]}),
            "is not compressed with gzip",
        ),
        (
            json!({"chpasswd": {"list": [{"root": "geheim"}]}}),
            "chpasswd.list[0]: is a mapping",
        ),
        (
            json!({"chpasswd": {"list": [754]}}),
            "chpasswd.list[0]: must be a text",
        ),
        (
            json!({"chpasswd": {"users": [{"name": "root", "password": 123}]}}),
            "password: must be a text",
        ),
        (
            json!({"chpasswd": {"users": [{"password": "x", "type": "text"}]}}),
            "chpasswd.users[0]: has no name",
        ),
        (
            json!({"ssh_keys": {"rsa_private": "geheim"}}),
            "ssh_keys.rsa_private: is not a private key",
        ),
        (
            json!("#cloud-config\nruncmd:\n  - {{ cmd }}\n"),
            "user_data: line 3: braces",
        ),
    ] {
        let error = refusal(&with_user_data(own.clone()));
        assert!(error.contains(part), "{own}: {error}");
        assert!(
            !error.contains("geheim") && !error.contains("X3DX6M94"),
            "{error}"
        );
    }
}

#[test]
fn what_people_rightly_write() {
    for own in [
        json!({"runcmd": ["reboot", ["echo", 1, true], null], "packages": "nginx", "ntp": null}),
        json!({"write_files": [{"path": "/x", "permissions": 420}, {"path": "/y", "permissions": "0644", "content": "1"}, {"path": "/z", "permissions": "0o600"}]}),
        json!({"users": ["default", {"name": "a", "hashed_passwd": YESCRYPT, "lock_passwd": false}, {"name": "b", "passwd": "!"}]}),
        json!({"chpasswd": {"expire": false, "list": ["root:geheim", "a:$6$salt$x"], "users": [{"name": "a", "password": YESCRYPT}, {"name": "b", "type": "RANDOM"}]}}),
        json!({"hostname": "web1", "fqdn": "web1.example.org.", "ubuntu-advantage": {"token": "x"}}),
        json!({"users": [{"name": "a", "plain_text_passwd": "$tr0ng$Pa$$"}]}),
        json!("#cloud-config vim: set ft=yaml:\npackages: [a]\n"),
        json!(
            "From nobody Thu Jan  1 00:00:00 2020\nContent-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n\
             --b\nContent-Type: text/cloud-config\n\n#cloud-config\npackages: [a]\n--b--\n"
        ),
        json!({"groups": "a,b", "disable_root": "no", "ssh_pwauth": "yes", "manage_etc_hosts": "localhost"}),
        json!(
            "#cloud-config\npackage_update: yes\nssh_pwauth: no\nwrite_files:\n- path: /x\n  permissions: 0644\n  content: |\n    a: {{ b }}\n    \tc\n"
        ),
    ] {
        let seed = Seed::new(&with_user_data(own.clone())).unwrap_or_else(|e| panic!("{own}: {e}"));
        assert!(seed.warnings().is_empty(), "{:?}", seed.warnings());
    }
}

#[test]
fn keys_of_the_meta_data_that_cloud_init_would_not_know() {
    for (meta, part) in [
        (
            json!({"local_hostname": "a"}),
            "meta_data: has the key local_hostname; cloud-init knows local-hostname",
        ),
        (json!({"instance_id": "a"}), "cloud-init knows instance-id"),
        (json!({"public_keys": []}), "cloud-init knows public-keys"),
        (
            json!({"local-hostname": 12}),
            "meta_data: local-hostname must be a text",
        ),
    ] {
        let input = Input {
            meta_data: dict(meta.clone()),
            ..Input::default()
        };
        let error = refusal(&input);
        assert!(error.contains(part), "{meta}: {error}");
    }
}

#[test]
fn what_has_no_effect_is_warned_about() {
    for (own, part) in [
        (json!({"package": []}), "did you mean packages?"),
        (json!({"runcmds": []}), "did you mean runcmd?"),
        (
            json!({"something": 1}),
            "user_data.something: is not a key that cloud-init knows",
        ),
        (json!("#cloud-config\nb: 1\n"), "user_data: line 2"),
    ] {
        let seed = Seed::new(&with_user_data(own)).unwrap();
        assert!(
            seed.warnings().iter().any(|warning| warning.contains(part)),
            "{:?}",
            seed.warnings()
        );
    }
}

#[test]
fn a_network_that_cloud_init_does_not_render() {
    let eth = |device: Value| json!({"version": 2, "ethernets": {"a": device}});
    let v1 = |entry: Value| json!({"version": 1, "config": [entry]});
    let subnet =
        |subnet: Value| v1(json!({"type": "physical", "name": "eth0", "subnets": [subnet]}));
    for (own, part) in [
        (
            json!({"ethernets": {}}),
            "network_config.version: is required",
        ),
        (
            json!({"version": "2", "ethernets": {}}),
            "network_config.version: must be a number (got the text '2')",
        ),
        (
            json!({"version": 3}),
            "network_config.version: must be 1 or 2 (got 3)",
        ),
        (json!({"version": 1.5}), "must be 1 or 2"),
        (json!({"version": true}), "must be 1 or 2"),
        (
            json!({"network": {"ethernets": {}}}),
            "network_config.network.version: is required",
        ),
        (
            json!({"version": 1, "config": {"type": "physical", "name": "eth0"}}),
            "network_config.config: must be a list",
        ),
        (json!({"version": 1}), "config: is required"),
        (
            v1(json!({"type": "ethernet", "name": "a"})),
            "config[0].type: must be one of physical",
        ),
        (v1(json!({"type": "physical"})), "a physical needs name"),
        (
            v1(json!({"type": "physical", "name": "a-very-long-name"})),
            "at most 15",
        ),
        (
            v1(json!({"type": "vlan", "name": "a"})),
            "a vlan needs vlan_id",
        ),
        (
            v1(json!({"type": "nameserver", "address": "dns.example.org"})),
            "must be IP addresses",
        ),
        (
            v1(json!({"type": "physical", "name": "a", "mac_address": 41135085296u64})),
            "quote it",
        ),
        (
            subnet(json!({"type": "dhcpv4"})),
            "subnets[0].type: must be one of",
        ),
        (subnet(json!({"type": "static"})), "needs address"),
        (
            subnet(json!({"type": "static", "address": "192.0.2.300/24"})),
            "must be an IP address",
        ),
        (
            subnet(json!({"type": "static", "address": "192.0.2.1/24", "gateway": "gw"})),
            "gateway: must be an IP address",
        ),
        (json!({"version": 2, "ethernets": []}), "must be a mapping"),
        (
            json!({"version": 2, "ethernet": {}}),
            "network_config.ethernet: is not a kind of device",
        ),
        (
            eth(json!({"match": {"macaddress": 41135085296u64}})),
            "quote it",
        ),
        (
            eth(json!({"match": {"macaddress": "x"}})),
            "must be a MAC address",
        ),
        (
            eth(json!({"addresses": "192.0.2.1/24"})),
            "addresses: must be a list",
        ),
        (
            eth(json!({"addresses": ["192.0.2.1"]})),
            "addresses[0]: must be an IP address with a prefix length",
        ),
        (
            eth(json!({"gateway4": "2001:db8::1"})),
            "gateway4: must be an IPv4 address",
        ),
        (
            eth(json!({"routes": {"to": "default"}})),
            "routes: must be a list",
        ),
        (eth(json!({"routes": [{"via": "192.0.2.1"}]})), "needs to"),
        (eth(json!({"routes": [{"to": "default"}]})), "needs via"),
        (
            eth(json!({"routes": [{"to": "::/0", "via": "192.0.2.1"}]})),
            "two address families",
        ),
        (
            eth(json!({"nameservers": ["192.0.2.1"]})),
            "must be a mapping",
        ),
        (
            eth(json!({"nameservers": {"addresses": ["x"]}})),
            "must be IP addresses",
        ),
        (
            eth(json!({"dhcp4": "maybe"})),
            "dhcp4: must be true or false",
        ),
        (
            eth(json!({"dhcp": true})),
            "a.dhcp: is not a key that cloud-init knows here; did you mean dhcp4?",
        ),
        (
            eth(json!({"adresses": ["192.0.2.1/24"]})),
            "did you mean addresses?",
        ),
        (
            eth(json!({"dhcp4_overrides": {}})),
            "did you mean dhcp4-overrides?",
        ),
        (
            eth(json!({"dhcp4": true, "dhcp4-overrides": ["use-dns"]})),
            "dhcp4-overrides: must be a mapping",
        ),
        (
            eth(json!({"dhcp4": true, "dhcp4-overrides": {"use_dns": false}})),
            "did you mean use-dns?",
        ),
        (
            eth(json!({"gateway": "192.0.2.1"})),
            "did you mean gateway4 or gateway6?",
        ),
        (
            eth(json!({"match": {"mac": "bc:24:11:00:00:01"}})),
            "match.mac: is not a key that cloud-init knows here; did you mean macaddress?",
        ),
        (
            eth(json!({"match": {"mac_address": "bc:24:11:00:00:01"}})),
            "did you mean macaddress?",
        ),
        (
            eth(json!({"match": {"macaddress": "bc:24:11:00:00:01"}, "set_name": "eth0"})),
            "did you mean set-name?",
        ),
        (
            eth(json!({"set-name": "eth0"})),
            "set-name: needs match with macaddress",
        ),
        (
            eth(
                json!({"match": {"macaddress": "bc:24:11:00:00:01"}, "set-name": "a-very-long-name"}),
            ),
            "at most 15",
        ),
        (
            json!({"version": 2, "ethernets": {"a/b": {"dhcp4": true}}}),
            "is not the name of a NIC",
        ),
        (eth(json!({"mtu": "jumbo"})), "mtu: must be a number"),
        (
            eth(json!({"routes": [{"to": "192.0.2.0/24", "via": "192.0.2.1", "metric": "high"}]})),
            "metric: must be a number",
        ),
        (
            json!({"version": 2, "renderer": "ifupdown", "ethernets": {}}),
            "renderer: must be networkd or NetworkManager",
        ),
        (
            json!({"version": 2, "vlans": {"v": {"id": 5000, "link": "v"}}}),
            "id: must be a number between 0 and 4094",
        ),
        (
            json!({"version": 2, "vlans": {"v": {"id": 5, "link": "eth0"}}}),
            "link: 'eth0' is not a device",
        ),
        (
            json!({"version": 2, "bonds": {"b": {}}}),
            "a bond needs interfaces",
        ),
        (
            json!({"version": 2, "bonds": {"b": {"interfaces": ["x"]}}}),
            "interfaces: 'x' is not a device",
        ),
        (
            json!({"version": 2, "bonds": {"b": {"interfaces": [], "parameters": {"bond-mode": "802.3ad"}}}}),
            "parameters.bond-mode: is not a parameter that cloud-init knows, so it would reject the whole configuration; did you mean mode?",
        ),
        (
            json!({"version": 2, "bonds": {"b": {"interfaces": [], "parameters": {"mode": 4}}}}),
            "mode: must be one of 802.3ad",
        ),
        (
            json!({"version": 2, "bonds": {"b": {"interfaces": [], "mode": "802.3ad"}}}),
            "did you mean parameters with mode?",
        ),
        (
            json!({"version": 2, "bridges": {"b": {"parameters": {"bridge_stp": false}}}}),
            "did you mean stp?",
        ),
        (
            v1(json!({"type": "physical", "name": "a", "macaddress": "bc:24:11:00:00:01"})),
            "did you mean mac_address?",
        ),
        (
            v1(json!({"type": "physical", "name": "a", "subnet": []})),
            "did you mean subnets?",
        ),
        (
            v1(json!({"type": "vlan", "name": "a", "vlan_link": "b", "vlan_id": "ten"})),
            "vlan_id: must be a number",
        ),
        (
            v1(json!({"type": "bond", "name": "a", "bond_interfaces": "b"})),
            "bond_interfaces: must be a list",
        ),
        (
            v1(json!({"type": "nameserver", "interface": "b", "address": "192.0.2.1"})),
            "interface: 'b' is not the name of an entry",
        ),
        (
            subnet(json!({"type": "static", "address": "192.0.2.1", "netmask": "255.255.0.255"})),
            "netmask: must be a netmask",
        ),
        (
            subnet(
                json!({"type": "static", "address": "192.0.2.1/24", "dns_nameservers": ["dns.google"]}),
            ),
            "dns_nameservers: must be IP addresses",
        ),
        (
            subnet(json!({"type": "static", "address": "192.0.2.1/24", "gateway4": "192.0.2.2"})),
            "did you mean gateway?",
        ),
        (
            subnet(
                json!({"type": "static", "address": "192.0.2.1/24", "routes": [{"to": "192.0.2.0/24", "via": "192.0.2.2"}]}),
            ),
            "routes[0]: needs destination or network",
        ),
        (
            subnet(json!({"type": "dhcp", "routes": {"network": "192.0.2.0"}})),
            "routes: must be a list",
        ),
    ] {
        let texts = [
            serde_json::to_string(&own).unwrap(),
            serde_yaml_ng::to_string(&own).unwrap(),
        ];
        let error = refusal(&Input {
            network_config: Some(Payload::Dict(dict(own.clone()))),
            ..Input::default()
        });
        assert!(
            error.starts_with("network_config") && error.contains(part),
            "{own}: {error}"
        );
        for text in texts {
            let error = refusal(&Input {
                network_config: Some(Payload::Text(text.clone())),
                ..Input::default()
            });
            assert!(
                error.starts_with("network_config: line "),
                "{text}: {error}"
            );
        }
    }
    // A MAC address of digits, as YAML 1.1 reads it.
    let text = "version: 2\nethernets:\n  a:\n    match:\n      macaddress: 52:54:00:12:34:56\n";
    let error = refusal(&Input {
        network_config: Some(Payload::Text(text.into())),
        ..Input::default()
    });
    assert!(error.contains("line 5: digits with colons"), "{error}");
}

#[test]
fn a_network_that_only_some_guests_set_up() {
    let eth = |device: Value| json!({"version": 2, "ethernets": {"a": device}});
    let warnings = |own: Value| {
        let input = Input {
            network_config: Some(Payload::Dict(dict(own.clone()))),
            ..Input::default()
        };
        let seed = Seed::new(&input).unwrap_or_else(|e| panic!("{own}: {e}"));
        seed.warnings().to_vec()
    };
    let route = |addresses: Value, via: &str, more: Value| {
        let mut device = json!({"addresses": addresses, "routes": [{"to": "0.0.0.0/0", "via": via, "on-link": true}]});
        device.as_object_mut().unwrap().extend(dict(more));
        eth(device)
    };
    for (own, part) in [
        (
            route(json!(["192.0.2.5/32"]), "198.51.100.1", json!({})),
            "routes[0]: via is in none of the networks",
        ),
        (
            route(json!(["192.0.2.5/32"]), "192.0.2.5", json!({})),
            "use gateway4",
        ),
        (
            route(json!(["192.0.2.5/24"]), "192.0.3.1", json!({})),
            "via is in none",
        ),
        (
            eth(json!({"match": {"name": "en*"}, "dhcp4": true})),
            "others look for a NIC called 'a'; use macaddress",
        ),
        (
            eth(json!({"match": {"driver": "virtio_net"}, "dhcp4": true})),
            "others look for a NIC called 'a'",
        ),
        (
            eth(json!({"addresses": [{"192.0.2.5/24": {"label": "x"}}]})),
            "netplan only",
        ),
        // cloud-init passes these on to netplan; ports of pairs are devices, too.
        (
            json!({"version": 2, "openvswitch": {"ports": [["patch0", "patch1"]]}, "ethernets": {"a": {}},
                "bridges": {"ovs0": {"interfaces": ["patch0", "a"], "openvswitch": {"fail-mode": "secure"}}}}),
            "openvswitch: is known to guests with netplan only",
        ),
        (
            json!({"version": 2, "nm-devices": {"NM-1": {}}}),
            "nm-devices: is known to guests with netplan only",
        ),
        (
            eth(
                json!({"addresses": ["192.0.2.5/24"], "routes": [{"to": "default", "via": "192.0.2.1"}]}),
            ),
            "write 0.0.0.0/0",
        ),
    ] {
        let warnings = warnings(own);
        assert!(
            warnings.iter().any(|warning| warning.contains(part)),
            "{warnings:?}"
        );
    }
    for own in [
        route(json!(["192.0.2.5/24"]), "192.0.2.1", json!({})),
        route(
            json!(["192.0.2.5/32"]),
            "198.51.100.1",
            json!({"dhcp4": true}),
        ),
        route(
            json!(["192.0.2.5/32", "198.51.100.9/24"]),
            "198.51.100.1",
            json!({}),
        ),
        eth(json!({"addresses": ["2001:db8::5/64"], "routes": [{"to": "::/0", "via": "fe80::1"}]})),
        eth(
            json!({"match": {"macaddress": "BC:24:11:00:00:01", "driver": "x"}, "set-name": "wan", "dhcp4": true, "mtu": "9000"}),
        ),
        json!({"version": 2, "ethernets": {"id0": {"match": {"macaddress": "bc:24:11:00:00:01"}, "set-name": "lan"}},
            "vlans": {"v10": {"id": 10, "link": "lan"}}}),
        json!({"config": "disabled"}),
        json!({"network": {"version": 1, "config": "disabled"}}),
        json!({"version": 2, "renderer": "networkd", "ethernets": {"a": {}, "b": {}}, "bonds": {"bond0": {
            "interfaces": ["a", "b"], "parameters": {"mode": "802.3ad", "mii-monitor-interval": 100}}},
            "vlans": {"bond0.10": {"id": "10", "link": "bond0", "dhcp4": "yes", "dhcp4-overrides": {"use-dns": false}}}}),
        json!({"version": 1, "config": [{"type": "physical", "name": "eth0", "mtu": 1500, "subnets": [
            {"type": "static", "address": "192.0.2.5", "netmask": 24, "dns_nameservers": "192.0.2.1 192.0.2.2",
             "routes": [{"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "192.0.2.1", "metric": 3}]}]}]}),
    ] {
        assert_eq!(warnings(own), Vec::<String>::new());
    }
}

#[test]
fn addresses_that_no_nic_works_with() {
    for (ip, part) in [
        ("ip=192.0.2.0/24", "address of the network itself"),
        ("ip=192.0.2.255/24", "broadcast"),
        (
            "ip=192.0.2.5/24,gw=192.0.2.5",
            "gw: is the address of the NIC itself",
        ),
        ("ip=192.0.2.5/0", "prefix length must be between 8 and 32"),
        (
            "ip=192.0.2.5/24,gw=192.0.2.255",
            "gw: is the address of the network itself or its broadcast address (got \"192.0.2.255\"); give the router's",
        ),
        (
            "ip=192.0.2.5/24,gw=192.0.2.0",
            "gw: is the address of the network itself",
        ),
        (
            "ip=192.0.2.5/24,gw=224.0.0.1",
            "gw: is not an address that a router can have",
        ),
        (
            "ip=192.0.2.5/24,gw=fe80::1",
            "gw: is an IPv6 address, which belongs to gw6",
        ),
        (
            "ip=2001:db8::5/64",
            "ip: is an IPv6 address, which belongs to ip6",
        ),
        (
            "ip=255.255.255.255/32",
            "ip: is not an address that a NIC can have",
        ),
        (
            "ip6=192.0.2.5/24",
            "ip6: is an IPv4 address, which belongs to ip",
        ),
        (
            "ip6=::ffff:192.0.2.5/64",
            "ip6: is an IPv4 address in IPv6 notation",
        ),
        ("ip6=::1/64", "ip6: is not an address that a NIC can have"),
        (
            "ip6=2001:db8::5/64,gw6=192.0.2.1",
            "gw6: is an IPv4 address, which belongs to gw",
        ),
        (
            "ip6=2001:db8::5/64,gw6=ff02::2",
            "gw6: is not an address that a router can have",
        ),
        ("ip6=2001:db8::5/64,gw6=fe80::1%eth0", "leave out the zone"),
        // The same address, written otherwise.
        (
            "ip6=2001:DB8::5/64,gw6=2001:db8:0::5",
            "gw6: is the address of the NIC itself",
        ),
        ("ip=224.0.0.1/24", "not an address that a NIC can have"),
        ("ip=0.0.0.0/24", "not an address that a NIC can have"),
        ("ip6=ff02::1/64", "ip6: is not an address"),
        (
            "ip6=2001:db8::1/64,gw6=2001:db8::1",
            "gw6: is the address of the NIC itself",
        ),
        ("ip6=2001:db8::1/0", "between 8 and 128"),
        (
            "ip=192.0.2.5/24,ip=192.0.2.6/24",
            "\"ip=192.0.2.6/24\": is given twice",
        ),
        // Words that Proxmox VE stores but cannot write, and words of other tools.
        ("ip=manual", "Proxmox VE accepts it"),
        ("ip=dhcp,ip6=manual", "Proxmox VE accepts it"),
        ("ip=auto", "is a value of ip6"),
        ("ip=dhcp,ip6=slaac", "calls it auto"),
        ("ip=DHCP", "nor dhcp"),
        ("ip=none", "nor dhcp"),
        ("dhcp", "must be one of ip="),
        ("ip=dhcp,gw=192.0.2.1", "needs a fixed ip"),
        ("ip6=auto,gw6=fe80::1", "needs a fixed ip6"),
    ] {
        let error = IpConfig::parse("ipconfig0", ip).unwrap_err().to_string();
        assert!(
            error.starts_with("ipconfig0: ") && error.contains(part),
            "{ip}: {error}"
        );
    }
    for ip in [
        "ip=192.0.2.0/31,gw=192.0.2.1",
        "ip=192.0.2.255/32,gw=198.51.100.1",
        "ip=10.0.1.0/16",
        "ip6=2001:db8::/64",
        "ip6=fe80::5/64",
        "ip6=2001:db8::5/64,gw6=fe80::1",
        "ip=192.0.2.5/24,gw=169.254.0.1",
        "ip6=2001:db8::5/128,gw6=2001:db8:1::1",
    ] {
        assert!(IpConfig::parse("ipconfig0", ip).is_ok(), "{ip}");
    }
}

fn nic(ip: &str) -> Nic {
    Nic {
        name: "net0".into(),
        mac: "BC:24:11:00:00:0B".into(),
        ip: IpConfig::parse("ipconfig0", ip).unwrap(),
    }
}

fn network(ip: &str) -> Value {
    let input = Input {
        nics: vec![nic(ip)],
        ..Input::default()
    };
    file(&input, "network-config")
}

#[test]
fn a_gateway_off_the_link_is_reached() {
    for (ip, gateway, route) in [
        (
            "ip=203.0.113.9/32,gw=198.51.100.1",
            "198.51.100.1",
            json!({"destination": "198.51.100.1/32", "gateway": "0.0.0.0"}),
        ),
        (
            "ip=203.0.113.9/24,gw=198.51.100.1",
            "198.51.100.1",
            json!({"destination": "198.51.100.1/32", "gateway": "0.0.0.0"}),
        ),
        (
            "ip6=2001:db8::9/128,gw6=2001:db8:1::1",
            "2001:db8:1::1",
            json!({"destination": "2001:db8:1::1/128", "gateway": "::"}),
        ),
    ] {
        let config = network(ip);
        assert_eq!(config["version"], 1);
        assert_eq!(config["config"][0]["name"], "eth0");
        let subnet = &config["config"][0]["subnets"][0];
        assert_eq!(
            (&subnet["gateway"], &subnet["routes"]),
            (&json!(gateway), &json!([route]))
        );
    }
    // These are reached as they are.
    for ip in [
        "ip=192.0.2.9/24,gw=192.0.2.1",
        "ip=192.0.2.9/31,gw=192.0.2.8",
        "ip6=2001:db8::9/64,gw6=fe80::1",
        "ip6=2001:db8::9/128,gw6=fe80::1",
        "ip=dhcp,ip6=dhcp",
    ] {
        assert_eq!(network(ip)["version"], 2, "{ip}");
    }
    let config_drive = Input {
        layout: Layout::ConfigDrive,
        nics: vec![nic("ip=203.0.113.9/32,gw=198.51.100.1")],
        ..Input::default()
    };
    assert_eq!(
        file(&config_drive, "openstack/latest/network_data.json")["networks"][0]["routes"][0],
        json!({"network": "198.51.100.1", "netmask": "255.255.255.255", "gateway": "0.0.0.0"})
    );
}

#[test]
fn router_advertisements_are_written_for_every_guest() {
    let config = network("ip=192.0.2.9/24,gw=192.0.2.1,ip6=auto");
    assert_eq!(
        config["config"][0]["subnets"][1],
        json!({"type": "ipv6_slaac"})
    );
    assert_eq!(config["config"][0]["subnets"][0]["gateway"], "192.0.2.1");
}

proptest! {
    /// Whatever addresses there are: what is made for them is what the check of a user's own takes.
    #[test]
    fn what_is_made_would_be_taken(
        address in any::<std::net::Ipv4Addr>(), prefix in 8u8..=32, gateway in prop::option::of(any::<std::net::Ipv4Addr>()),
        address6 in any::<std::net::Ipv6Addr>(), prefix6 in 8u8..=128, gateway6 in prop::option::of(any::<std::net::Ipv6Addr>()),
        mode6 in 0u8..3,
    ) {
        let mut parts = vec![format!("ip={address}/{prefix}")];
        parts.extend(gateway.map(|gateway| format!("gw={gateway}")));
        match mode6 {
            0 => parts.push("ip6=auto".into()),
            1 => parts.push("ip6=dhcp".into()),
            _ => {
                parts.push(format!("ip6={address6}/{prefix6}"));
                parts.extend(gateway6.map(|gateway| format!("gw6={gateway}")));
            }
        }
        let text = parts.join(",");
        // An address that a NIC can have, which nearly all are.
        prop_assume!(IpConfig::parse("ipconfig0", &text).is_ok());
        let config = network(&text);
        let text = serde_yaml_ng::to_string(&config).unwrap();
        for payload in [Payload::Dict(dict(config)), Payload::Text(text)] {
            let input = Input { network_config: Some(payload), ..Input::default() };
            prop_assert!(Seed::new(&input).is_ok_and(|seed| seed.warnings().is_empty()));
        }
    }
}

#[test]
fn all_that_is_wrong_with_a_nic_is_found_together() {
    let wrong = IpConfig::read(
        Some("192.0.2.0/24"),
        Some("nowhere"),
        Some("auto"),
        Some("fe80::1"),
    );
    let wrong: Vec<String> = wrong.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        wrong,
        [
            "ip: is the address of the network itself or its broadcast address (got \"192.0.2.0/24\"); give the NIC's own",
            "gw: is not an IPv4 address (got \"nowhere\")",
            "gw6: needs a fixed ip6 (got \"fe80::1\")",
        ]
    );
}
