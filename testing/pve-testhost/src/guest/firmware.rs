//! UEFI firmware: its code, and the volume its variables are in.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::config::{Config, Properties};

/// Where Debian's `ovmf` package puts it.
const DIRECTORY: &str = "/usr/share/OVMF";

/// Signature and place of a firmware volume, by which a volume is seen to have been initialised.
const SIGNATURE: &[u8] = b"_FVH";
const SIGNATURE_AT: usize = 0x28;

/// The files for QEMU's two flash units.
pub(super) struct Files {
    pub code: PathBuf,
    pub vars: PathBuf,
}

/// Firmware for a VM. A fresh `efidisk0` is filled with the variables its options ask for; without
/// one the variables are thrown away with every stop, as PVE does it.
///
/// Secure Boot is not enforced: the code is always the one without it.
///
/// # Errors
/// When the firmware is not installed, or the volume cannot be written.
pub(super) fn prepare(
    config: &Config,
    efidisk: Option<&Path>,
    run_dir: &Path,
) -> Result<Files, String> {
    let options = Properties::parse(config.get("efidisk0").map_or("", String::as_str));
    let large = efidisk.is_none() || options.get("efitype") == Some("4m");
    let (code, vars) = match (large, options.on("pre-enrolled-keys")) {
        (true, true) => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.ms.fd"),
        (true, false) => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
        (false, true) => ("OVMF_CODE.fd", "OVMF_VARS.ms.fd"),
        (false, false) => ("OVMF_CODE.fd", "OVMF_VARS.fd"),
    };
    let (code, template) = (
        Path::new(DIRECTORY).join(code),
        Path::new(DIRECTORY).join(vars),
    );
    for file in [&code, &template] {
        if !file.exists() {
            return Err(format!(
                "UEFI firmware {} is missing: install the package 'ovmf', or use bios=seabios",
                file.display()
            ));
        }
    }
    let vars = match efidisk {
        Some(volume) if initialised(volume) => volume.to_owned(),
        volume => {
            let target = volume.map_or_else(|| run_dir.join("efi-vars.fd"), Path::to_owned);
            fs::read(&template)
                .and_then(|content| fs::write(&target, content))
                .map_err(|error| {
                    format!(
                        "cannot write EFI variables to {}: {error}",
                        target.display()
                    )
                })?;
            target
        }
    };
    Ok(Files { code, vars })
}

fn initialised(volume: &Path) -> bool {
    let mut start = Vec::new();
    let length = u64::try_from(SIGNATURE_AT + SIGNATURE.len()).unwrap_or_default();
    File::open(volume)
        .and_then(|file| file.take(length).read_to_end(&mut start))
        .is_ok_and(|_| start.get(SIGNATURE_AT..) == Some(SIGNATURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare_with(efidisk0: &str, volume: Option<&Path>, run_dir: &Path) -> Files {
        let config = Config::from([("efidisk0".to_owned(), efidisk0.to_owned())]);
        prepare(&config, volume, run_dir).unwrap()
    }

    #[test]
    fn a_fresh_volume_is_filled_once() {
        if !Path::new(DIRECTORY).exists() {
            eprintln!("skipped: the package 'ovmf' is not installed");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("vm-101-disk-0.raw");
        fs::write(&volume, vec![0; 540_672]).unwrap();
        let files = prepare_with(
            "local:101/vm-101-disk-0.raw,efitype=4m",
            Some(&volume),
            directory.path(),
        );
        assert_eq!(files.vars, volume);
        assert!(files.code.ends_with("OVMF_CODE_4M.fd"));
        let mut content = fs::read(&volume).unwrap();
        assert_eq!(content.len(), 540_672);
        *content.last_mut().unwrap() = 7;
        fs::write(&volume, &content).unwrap();
        prepare_with(
            "local:101/vm-101-disk-0.raw,efitype=4m",
            Some(&volume),
            directory.path(),
        );
        assert_eq!(fs::read(&volume).unwrap(), content);
    }

    #[test]
    fn without_a_volume_variables_are_temporary() {
        if !Path::new(DIRECTORY).exists() {
            eprintln!("skipped: the package 'ovmf' is not installed");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let files = prepare(&Config::new(), None, directory.path()).unwrap();
        assert_eq!(files.vars, directory.path().join("efi-vars.fd"));
    }
}
