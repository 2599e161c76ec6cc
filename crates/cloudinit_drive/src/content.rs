//! From the options to the content that is wanted.

use std::collections::BTreeMap;
use std::path::Path;

use ansible_module::Secret;
use nocloud_seed::{
    Address4, Address6, HostKey, Input, IpConfig, KeyKind, Nic, Payload, PublicKeyLine, Seed,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pve_client::property::PropertyString;

use crate::error::Error;
use crate::options::{Data, HostKeyOption, IpOption, Kind, Layout, Options};
use crate::password;
use crate::state::{Dns, Vm};

/// What Proxmox VE leaves as it is in `sshkeys`: JavaScript's
/// `encodeURIComponent`, which its own interface uses.
const SSHKEYS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// What a native drive shall hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Native {
    /// Options of the VM's configuration; nothing removes one.
    pub keys: BTreeMap<String, Option<String>>,
    /// The password, which is not among them because its hash is salted.
    pub password: Option<Secret>,
}

/// Refuses options that the other kind of drive has.
pub fn check_kind(options: &Options) -> Result<(), Error> {
    let given: &[(&'static str, bool)] = match options.kind {
        Kind::Nocloud => &[
            ("ciuser", options.ciuser.is_some()),
            ("cipassword", options.cipassword.is_some()),
            ("sshkeys", options.sshkeys.is_some()),
            ("citype", options.citype.is_some()),
            ("ciupgrade", options.ciupgrade),
        ],
        Kind::Native => &[
            ("user_data", options.user_data.is_some()),
            ("meta_data", options.meta_data.is_some()),
            ("vendor_data", options.vendor_data.is_some()),
            ("network_config", options.network_config.is_some()),
            ("hostname", options.hostname.is_some()),
            ("ssh_host_keys", options.ssh_host_keys.is_some()),
            ("layout", options.layout != Layout::default()),
        ],
    };
    let Some(&(option, _)) = given.iter().find(|(_, given)| *given) else {
        return Ok(());
    };
    Err(Error::OtherKind {
        option,
        kind: options.kind,
    })
}

/// The seed for a VM, whose configuration says the MAC addresses.
///
/// `dns` are the DNS settings of the node, which count where none are given.
pub fn seed(options: &Options, vm: &Vm, dns: Option<Dns>) -> Result<Seed, Error> {
    let dns = dns.unwrap_or_else(|| Dns {
        servers: trimmed(options.nameservers.as_ref()),
        search: trimmed(options.searchdomains.as_ref()),
    });
    let input = Input {
        layout: match options.layout {
            Layout::Nocloud => nocloud_seed::Layout::Nocloud,
            Layout::Configdrive => nocloud_seed::Layout::ConfigDrive,
        },
        user_data: options.user_data.as_ref().map(payload),
        vendor_data: options.vendor_data.as_ref().map(payload),
        meta_data: options.meta_data.clone().unwrap_or_default(),
        network_config: options.network_config.as_ref().map(payload),
        hostname: options.hostname.clone(),
        authorized_keys: options.ssh_authorized_keys.clone().unwrap_or_default(),
        host_keys: host_keys(options)?,
        nics: nics(options, vm)?,
        nameservers: dns.servers,
        search_domains: dns.search,
    };
    if input.nics.is_empty() {
        for (option, list) in [
            ("nameservers", &input.nameservers),
            ("searchdomains", &input.search_domains),
        ] {
            if !list.is_empty() {
                return Err(Error::NeedsIpconfig { option });
            }
        }
    } else if input.network_config.is_some() {
        return Err(Error::NetworkTwice);
    }
    Ok(Seed::new(&input)?)
}

/// Whether the guest has a fixed address and nothing that says which name servers it asks.
pub fn lacks_dns(options: &Options) -> Result<bool, Error> {
    let named = [&options.nameservers, &options.searchdomains];
    if named
        .into_iter()
        .any(|list| !trimmed(list.as_ref()).is_empty())
    {
        return Ok(false);
    }
    for (key, value) in options.ipconfig.iter().flatten() {
        if is_empty(value) {
            continue;
        }
        let ip = ip_config(key, value)?;
        if matches!(ip.ip, Some(Address4::Static(..)))
            || matches!(ip.ip6, Some(Address6::Static(..)))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The items of a list, which Ansible may have split at commas.
fn trimmed(list: Option<&Vec<String>>) -> Vec<String> {
    let items = list.into_iter().flatten();
    let items = items.map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

/// What a native drive shall hold.
pub fn native(options: &Options) -> Result<Native, Error> {
    let mut keys = BTreeMap::new();
    let text = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
    for (key, value) in [("ciuser", &options.ciuser), ("citype", &options.citype)] {
        if let Some(value) = value {
            keys.insert(key.to_owned(), text(value));
        }
    }
    for (key, list) in [
        ("nameserver", &options.nameservers),
        ("searchdomain", &options.searchdomains),
    ] {
        if let Some(list) = list {
            keys.insert(key.to_owned(), text(&list.join(" ")));
        }
    }
    let is_address = |word: &str| word.parse::<std::net::IpAddr>().is_ok();
    let words = options
        .nameservers
        .iter()
        .flatten()
        .flat_map(|item| item.split([' ', ',', ';']));
    if let Some(word) = words
        .filter(|word| !word.is_empty())
        .find(|word| !is_address(word))
    {
        return Err(Error::InvalidNameserver(word.to_owned()));
    }
    keys.insert(
        "ciupgrade".to_owned(),
        Some(u8::from(options.ciupgrade).to_string()),
    );
    if options.sshkeys.is_some() || options.ssh_authorized_keys.is_some() {
        let listed = options
            .ssh_authorized_keys
            .iter()
            .flatten()
            .map(String::as_str);
        let lines = options.sshkeys.iter().flat_map(|text| text.lines());
        check_keys("sshkeys", lines.clone())?;
        check_keys("ssh_authorized_keys", listed.clone())?;
        keys.insert("sshkeys".to_owned(), encode_sshkeys(lines.chain(listed)));
    }
    for (key, value) in options.ipconfig.iter().flatten() {
        nic_of(key)?;
        let value = match is_empty(value) {
            true => None,
            false => Some(ip_config(key, value)?.to_string()),
        };
        keys.insert(key.clone(), value);
    }
    if let Some(password) = &options.cipassword {
        password::check(password.expose())?;
    }
    // The hash of an empty password would let anybody in.
    if options.cipassword.as_ref().is_some_and(Secret::is_empty) {
        keys.insert("cipassword".to_owned(), None);
    }
    Ok(Native {
        keys,
        password: options.cipassword.clone().filter(|given| !given.is_empty()),
    })
}

/// Refuses what is not a public key, by its line.
fn check_keys<'a>(
    option: &'static str,
    lines: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Error> {
    // However its lines were counted.
    if lines.clone().any(|line| line.contains("PRIVATE KEY")) {
        return Err(Error::PrivateKey { option });
    }
    let mut numbered = lines.map(str::trim).enumerate();
    numbered.try_for_each(|(index, line)| {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        match PublicKeyLine::parse(line) {
            Ok(_) => Ok(()),
            Err(problem) => Err(Error::InvalidKey {
                option,
                number: index + 1,
                problem: problem.to_string(),
            }),
        }
    })
}

/// Public keys as the option `sshkeys` holds them. Comment and empty lines are
/// left out, since Proxmox VE refuses the former.
fn encode_sshkeys<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut keys: Vec<&str> = Vec::new();
    for line in lines.map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') && !keys.contains(&line) {
            keys.push(line);
        }
    }
    let text = keys.join("\n");
    (!text.is_empty()).then(|| utf8_percent_encode(&text, SSHKEYS).to_string())
}

/// `net0` for `ipconfig0`.
fn nic_of(key: &str) -> Result<String, Error> {
    key.strip_prefix("ipconfig")
        .filter(|n| {
            n.parse::<u8>()
                .is_ok_and(|value| value < 32 && value.to_string() == *n)
        })
        .map(|n| format!("net{n}"))
        .ok_or_else(|| Error::InvalidIpconfig(key.to_owned()))
}

fn ip_config(key: &str, value: &IpOption) -> Result<IpConfig, Error> {
    let parsed = match value {
        IpOption::Text(text) => IpConfig::parse(key, text),
        IpOption::Parts(parts) => IpConfig::new(
            key,
            parts.ip.as_deref(),
            parts.gw.as_deref(),
            parts.ip6.as_deref(),
            parts.gw6.as_deref(),
        ),
    };
    Ok(parsed?)
}

/// Whether an address is taken away.
fn is_empty(value: &IpOption) -> bool {
    match value {
        IpOption::Text(text) => text.trim().is_empty(),
        IpOption::Parts(parts) => {
            let given = [&parts.ip, &parts.gw, &parts.ip6, &parts.gw6];
            given
                .iter()
                .all(|part| part.as_ref().is_none_or(|text| text.trim().is_empty()))
        }
    }
}

fn nics(options: &Options, vm: &Vm) -> Result<Vec<Nic>, Error> {
    let mut nics = Vec::new();
    for (key, value) in options.ipconfig.iter().flatten() {
        let name = nic_of(key)?;
        if is_empty(value) {
            continue;
        }
        let ip = ip_config(key, value)?;
        let Some(net) = vm.next(&name) else {
            return Err(Error::NoSuchNic {
                key: key.clone(),
                nic: name,
                vmid: options.vmid,
            });
        };
        let Some(mac) = mac(net) else {
            return Err(Error::NoMac {
                nic: name,
                vmid: options.vmid,
                value: net.to_owned(),
            });
        };
        nics.push(Nic { name, mac, ip });
    }
    Ok(nics)
}

/// The MAC address in `virtio=BC:24:11:00:00:01,bridge=vmbr0`, or in the
/// longer form with `model=` and `macaddr=`.
fn mac(net: &str) -> Option<String> {
    let net = PropertyString::parse(net, Some("model")).ok()?;
    let is_mac = |value: &&str| value.len() == 17 && value.split(':').count() == 6;
    net.get("macaddr")
        .or_else(|| net.iter().map(|(_, value)| value).find(is_mac))
        .map(str::to_owned)
}

fn host_keys(options: &Options) -> Result<Vec<HostKey>, Error> {
    let Some(keys) = &options.ssh_host_keys else {
        return Ok(Vec::new());
    };
    let kinds = [
        (KeyKind::Ed25519, &keys.ed25519),
        (KeyKind::Ecdsa, &keys.ecdsa),
        (KeyKind::Rsa, &keys.rsa),
    ];
    let given = kinds
        .into_iter()
        .filter_map(|(kind, key)| Some((kind, key.as_ref()?)));
    given.map(|(kind, key)| host_key(kind, key)).collect()
}

fn host_key(kind: KeyKind, key: &HostKeyOption) -> Result<HostKey, Error> {
    let option = format!("ssh_host_keys.{}", kind.name());
    let private = match (&key.private, &key.private_file) {
        (Some(text), None) => text.expose().to_owned(),
        (None, Some(path)) => read(&option, path)?,
        _ => {
            return Err(Error::NoPrivateHostKey { option });
        }
    };
    let public = match (&key.public, &key.public_file) {
        (text, None) => text.clone(),
        (None, Some(path)) => Some(read(&option, path)?),
        _ => {
            return Err(Error::TwoPublicHostKeys { option });
        }
    };
    let pair = HostKey::new(kind, &private, public.as_deref())?;
    if let (Some(path), None) = (&key.private_file, &public) {
        check_beside(&option, path, &pair)?;
    }
    Ok(pair)
}

/// Refuses a private key file with the public key of another beside it: whoever wrote the latter into
/// `known_hosts` would not reach the guest.
fn check_beside(option: &str, path: &Path, pair: &HostKey) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let beside = Path::new(&beside);
    let Ok(text) = std::fs::read_to_string(beside) else {
        return Ok(());
    };
    let Ok(given) = PublicKeyLine::parse(text.trim()) else {
        return Ok(());
    };
    let own = pair.public().split(' ').nth(1).map(str::trim);
    if own == Some(given.encoded) {
        return Ok(());
    }
    Err(Error::OtherPublicHostKey {
        option: option.to_owned(),
        private: path.to_owned(),
        public: beside.to_owned(),
    })
}

fn read(option: &str, path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
        option: option.to_owned(),
        path: path.to_owned(),
        source,
    })
}

fn payload(data: &Data) -> Payload {
    match data {
        Data::Text(text) => Payload::Text(text.clone()),
        Data::Dict(dict) => Payload::Dict(dict.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sshkeys_are_encoded_as_proxmox_wants_them() {
        let text = "ssh-ed25519 AAAA+b/c= me+x@host\n\n# a comment\r\nssh-rsa BBBB (it's~me!*)\n";
        let encoded = encode_sshkeys(text.lines()).unwrap();
        assert_eq!(
            encoded,
            "ssh-ed25519%20AAAA%2Bb%2Fc%3D%20me%2Bx%40host%0Assh-rsa%20BBBB%20(it's~me!*)"
        );
        assert_eq!(encode_sshkeys("\n".lines()), None);
    }

    #[test]
    fn mac_addresses_are_found() {
        assert_eq!(
            mac("virtio=BC:24:11:00:00:01,bridge=vmbr0").unwrap(),
            "BC:24:11:00:00:01"
        );
        assert_eq!(
            mac("model=virtio,macaddr=BC:24:11:00:00:02").unwrap(),
            "BC:24:11:00:00:02"
        );
        assert_eq!(mac("virtio,bridge=vmbr0"), None);
    }

    #[test]
    fn nics_are_numbered_as_proxmox_numbers_them() {
        assert_eq!(nic_of("ipconfig0").unwrap(), "net0");
        assert_eq!(nic_of("ipconfig31").unwrap(), "net31");
        for wrong in ["ipconfig", "ipconfig32", "ipconfig00", "ipconfig+1", "net0"] {
            assert!(nic_of(wrong).is_err(), "{wrong}");
        }
    }
}
