//! What PVE's configuration of a VM can have, as its API's schema says (PVE 9.2). PVE refuses every other name, but only when it is
//! asked to write it, so that check mode would not know.

use pve_schema::PARAMETERS;

/// Refuse a name that PVE's configuration does not have, with the one that may be meant.
pub fn known(name: &str) -> Result<(), String> {
    let options = || PARAMETERS.iter().filter(|row| row.is_config());
    if options().any(|row| row.is(name)) {
        return Ok(());
    }
    let plain = |text: &str| {
        let text = text.to_ascii_lowercase().replace(['-', '_', '*'], "");
        text.strip_suffix('s').unwrap_or(&text).to_owned()
    };
    let same = |option: &str| plain(option) == plain(name);
    let meant = options().map(|row| row.name).find(|option| same(option));
    Err(match meant {
        Some(meant) if meant.ends_with('*') => {
            let stem = meant.trim_end_matches('*');
            format!("is not an option of PVE's VM configuration; did you mean {stem}0?")
        }
        Some(meant) => format!("is not an option of PVE's VM configuration; did you mean {meant}?"),
        None => "is not an option of PVE's VM configuration (PVE 9.2)".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::validation;

    #[test]
    fn names_are_pves() {
        for name in [
            "args",
            "hostpci3",
            "numa",
            "numa1",
            "ipconfig0",
            "allow-ksm",
            "virtiofs9",
            "vmstatestorage",
        ] {
            known(name).unwrap();
        }
        for (name, meant) in [
            ("Args", "did you mean args?"),
            ("allow_ksm", "did you mean allow-ksm?"),
            ("nameservers", "did you mean nameserver?"),
            ("searchdomains", "did you mean searchdomain?"),
            ("hostpci", "did you mean hostpci0?"),
            ("vcpu", "did you mean vcpus?"),
            ("hookscript0", "(PVE 9.2)"),
            ("scsi-1", "(PVE 9.2)"),
        ] {
            let error = known(name).unwrap_err();
            assert!(error.ends_with(meant), "{name}: {error}");
        }
        validation::value("ostype", "l26").unwrap();
        validation::value("cores", "7").unwrap();
        assert!(
            validation::value("ostype", "linux")
                .unwrap_err()
                .starts_with("ostype: must be one of other, ")
        );
    }
}
