use super::*;
use crate::Tls;

fn settings(hosts: &[&str]) -> Settings {
    Settings {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        port: 8006,
        credential: Credential::Token {
            id: "root@pam!t".into(),
            secret: "s".into(),
        },
        tls: Tls::Insecure,
        request_timeout: Duration::from_secs(60),
    }
}

#[test]
fn addresses_of_both_families() {
    let client = Client::new(settings(&["[::1]", "pve1.example"])).unwrap();
    assert_eq!(client.address(), "[::1]:8006");
    let client = Client::new(settings(&["::1", "pve1.example"])).unwrap();
    assert_eq!(
        client.url("/version", ""),
        "https://[::1]:8006/api2/json/version"
    );
    assert_eq!(client.addresses(), "[::1]:8006, pve1.example:8006");
}

#[test]
fn a_host_is_only_a_host() {
    for host in [
        "",
        "https://pve1",
        "pve1/x",
        "user@pve1",
        "a b",
        "pve1:8006",
        "[::1]:8006",
        "[::1",
        "fe80::1%eth0",
    ] {
        assert!(Client::new(settings(&[host])).is_err(), "{host}");
    }
    assert!(Client::new(settings(&[])).is_err());
}
