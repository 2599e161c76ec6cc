//! The jump hosts before the machine.

use guest_ssh::Jump;
use nixos_anywhere_install::{JumpOptions, is_proxy_jump};
use serde_json::{Value, json};

use super::further::Args;
use crate::options::{PREFIX, Settings, given};

impl Settings {
    /// The jump hosts; none where the controller reaches the machine itself.
    ///
    /// # Errors
    /// Every mistake in the variables that name them.
    pub fn jump(&self) -> Result<Option<Jump>, Vec<String>> {
        let proxy_jump = self.proxy_jump();
        let options = JumpOptions {
            jump_host: self.jump_host.as_deref(),
            keys: &self.jump_host_keys,
            private_key_file: self.jump_key(),
            proxy_jump: proxy_jump.as_ref(),
        };
        options.read().map_err(|mistakes| {
            let variable = |option: &str| match option {
                "ssh_options" => format!("{PREFIX}install_options: ssh_options"),
                option => format!("{PREFIX}{option}"),
            };
            let text = |(option, problem): &(&str, String)| {
                format!(
                    "{}: {}",
                    variable(option),
                    problem.replace(" jump_host", &format!(" {PREFIX}jump_host"))
                )
            };
            mistakes.iter().map(text).collect()
        })
    }

    /// The options of the modules that reach the machine.
    pub fn jump_args(&self) -> Args {
        let mut args = Args::new();
        let given = given(self.jump_host.as_ref()).map(Value::from);
        // For all that reaches it, not only for the installation.
        let Some(jump_host) = given.or_else(|| self.proxy_jump()) else {
            return args;
        };
        args.insert("jump_host".into(), jump_host);
        if !self.jump_host_keys.is_empty() {
            args.insert("jump_host_keys".into(), json!(self.jump_host_keys));
        }
        if let Some(key) = self.jump_key() {
            args.insert("jump_host_private_key_file".into(), json!(key));
        }
        args
    }

    /// `ProxyJump` among the further options of the installation, which means the same.
    fn proxy_jump(&self) -> Option<Value> {
        let install = self.further().install;
        let mut options = install.get("ssh_options")?.as_object()?.iter();
        let (_, value) = options.find(|(name, _)| is_proxy_jump(name))?;
        let none = value
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case("none"));
        (!none).then(|| value.clone())
    }

    fn jump_key(&self) -> Option<&std::path::Path> {
        let key = self.jump_host_private_key_file.as_deref();
        key.filter(|key| !key.as_os_str().is_empty())
    }
}
