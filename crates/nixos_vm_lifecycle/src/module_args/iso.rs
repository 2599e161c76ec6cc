//! The options of `proxmox_iso`.

use serde_json::json;

use crate::module_args::further::Args;
use crate::options::{InstallerSource, PREFIX, Settings};

impl Settings {
    /// The installer ISO on the storage of `node`; `built` is the file that Nix made.
    pub fn iso(&self, node: &str, built: Option<&std::path::Path>) -> Args {
        let mut args = Args::new();
        args.insert("node".into(), node.into());
        args.insert("storage".into(), self.iso_storage.clone().into());
        let source = self.installer_iso.clone().unwrap_or_default();
        match self.installer_source {
            InstallerSource::Path => {
                args.insert("src".into(), source.into());
            }
            InstallerSource::Url => {
                args.insert("url".into(), source.into());
            }
            InstallerSource::Build => {
                args.insert("src".into(), json!(built));
                // Every build is another file on the storage: a part of the hash in its directory's name distinguishes them.
                args.extend(
                    built
                        .and_then(built_name)
                        .map(|name| ("name".into(), name.into())),
                );
            }
            InstallerSource::Release => {
                let mut release = json!({
                    "repo": self.installer_repo, "tag": self.installer_tag, "asset": self.installer_asset,
                    "api_url": self.installer_api_url,
                });
                if let Some(token) = self
                    .installer_token
                    .as_ref()
                    .filter(|token| !token.is_empty())
                {
                    release["token"] = token.expose().into();
                }
                args.insert("github_release".into(), release);
                args.insert("download_by".into(), "controller".into());
            }
        }
        args.extend(
            self.installer_name
                .clone()
                .map(|name| ("name".into(), name.into())),
        );
        args.extend(
            self.installer_checksum
                .clone()
                .map(|sum| ("checksum".into(), sum.into())),
        );
        args.extend(self.further().iso);
        args
    }
}

/// The variable that stands for an option of `proxmox_iso`, such as `checksum` or `github_release.token`.
pub fn iso_variable(source: InstallerSource, option: &str) -> String {
    let variable = match option {
        "src" if source == InstallerSource::Build => "installer_flake",
        "src" | "url" => "installer_iso",
        "checksum" => "installer_checksum",
        "name" => "installer_name",
        "storage" => "iso_storage",
        "node" => "node",
        option => match option.strip_prefix("github_release.") {
            Some(part) => return format!("{PREFIX}installer_{part}"),
            None => return format!("{PREFIX}iso_options.{option}"),
        },
    };
    format!("{PREFIX}{variable}")
}

fn built_name(file: &std::path::Path) -> Option<String> {
    // /nix/store/HASH-NAME/iso/FILE.iso
    let hash = file.parent()?.parent()?.file_name()?.to_string_lossy();
    let stem = file.file_stem()?.to_string_lossy();
    Some(format!(
        "{stem}-{}.iso",
        hash.chars().take(8).collect::<String>()
    ))
}
