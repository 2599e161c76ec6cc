//! The seed of an installation.

use ansible_module::{Failure, Outcome};
use pve_module::record::Phase;

use super::{expect, run as this_run};
use crate::context::Context;
use crate::keys;
use crate::store::Installation;

/// The seed of this installation, on the VM with this number.
pub async fn attach(
    context: &Context<'_>,
    installation: &Installation,
    vmid: u32,
    node: &str,
    check: bool,
) -> Result<Outcome, Failure> {
    let settings = context.settings();
    let args = if settings.by_image() {
        let host_key = keys::installed(installation).into_iter().next();
        settings.identity_seed(
            &this_run(context)?.installation,
            &host_key.unwrap_or_default(),
            &keys::files(installation),
        )
    } else {
        let client = installation
            .read(&format!("{}.pub", keys::CLIENT))
            .unwrap_or_default();
        let mut keys = settings.authorized_keys.clone();
        keys.push(client);
        settings.seed(&keys, &installation.path(keys::INSTALLER))
    };
    let phases = [
        Phase::Creating,
        Phase::Provisioning,
        Phase::Reinstalling,
        Phase::Installing,
    ];
    let guard = expect(this_run(context)?, &phases);
    context.drive(args, vmid, node, Some(&guard), check).await
}
