//! The options of `nixos_anywhere_install`.

use std::path::Path;

use serde_json::{Value, json};

use crate::module_args::further::Args;
use crate::options::Settings;

impl Settings {
    /// The tree for the root of the new system.
    pub fn tree(&self) -> Option<&Path> {
        let tree = self.extra_files_dir.as_deref();
        tree.filter(|tree| !tree.as_os_str().is_empty())
    }

    /// The installation itself. `store_paths` is what was built already.
    pub fn install(&self, store_paths: Option<&Value>) -> Args {
        let mut args = Args::new();
        args.insert("build_on".into(), self.build_on.clone().into());
        args.insert("timeout".into(), self.install_timeout.into());
        match store_paths {
            Some(paths) => args.insert("store_paths".into(), paths.clone()),
            None => args.insert(
                "flake".into(),
                self.flake.clone().unwrap_or_default().into(),
            ),
        };
        if let Some(tools) = &self.tools_path {
            args.insert("tools_path".into(), json!(tools));
        }
        if !self.disk_encryption_keys.is_empty() {
            args.insert(
                "disk_encryption_keys".into(),
                json!(self.disk_encryption_keys),
            );
        }
        if let Some(tree) = self.tree() {
            args.insert("extra_files_dir".into(), json!(tree));
        }
        let files: Vec<Value> = self
            .extra_files
            .iter()
            .map(|file| {
                let mut args = Args::new();
                args.insert("path".into(), file.path.clone().into());
                args.extend(file.src.as_ref().map(|src| ("src".into(), json!(src))));
                args.extend(
                    file.content
                        .as_ref()
                        .map(|content| ("content".into(), content_text(content))),
                );
                args.extend(file.mode.clone().map(|mode| ("mode".into(), mode.into())));
                args.extend(
                    file.owner
                        .clone()
                        .map(|owner| ("owner".into(), owner.into())),
                );
                Value::Object(args)
            })
            .collect();
        if !files.is_empty() {
            args.insert("extra_files".into(), files.into());
        }
        args.extend(self.further().install);
        args.extend(self.jump_args());
        args
    }
}

/// The text of an extra file: a dict or list as JSON, which an older ansible-core makes of a text that looks like it.
fn content_text(content: &Value) -> Value {
    match content {
        Value::String(_) => content.clone(),
        Value::Null => Value::String(String::new()),
        other => Value::String(other.to_string()),
    }
}
