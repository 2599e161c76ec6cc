//! The installed system, asked over SSH.

use ansible_module::{Failure, Outcome};
use serde_json::{Value, json};

use crate::context::Context;
use crate::module_args::Args;

/// Wait until the installed system answers with its host key, and runs this closure if it is known.
///
/// # Errors
/// Those of `nixos_anywhere_install`.
pub async fn verify(
    context: &Context<'_>,
    closure: Option<String>,
    address: &str,
    host_keys: &[String],
    timeout: u64,
) -> Result<Outcome, Failure> {
    let settings = context.settings();
    let mut args = Args::new();
    args.insert("state".into(), "verified".into());
    args.insert("host".into(), address.into());
    args.insert("port".into(), settings.ssh_port.into());
    args.insert("user".into(), settings.ssh_user.clone().into());
    args.insert("installed_host_keys".into(), json!(host_keys));
    args.insert("timeout".into(), timeout.into());
    args.extend(closure.map(|closure| ("closure".to_owned(), Value::from(closure))));
    args.extend(settings.jump_args());
    let _file = super::login_key(context, &mut args)?;
    let mut outcome = context.install(args, false).await?;
    outcome.changed = false;
    outcome.diff = None;
    Ok(outcome)
}
