//! Removal of a machine with all of its data. Only of one that is this host's, and only for who names the host again.

use ansible_module::{Failure, Outcome};
use deadline::Deadline;
use nixos_vm_report::host_plan::Claim;
use proxmox_nixos_vm::ownership::Ownership;
use pve_client::property::parse_bool;
use pve_module::Inventory;
use pve_module::record::Record;

use super::summed;
use crate::build;
use crate::claims;
use crate::context::Context;
use crate::error::{Error, StepError};
use crate::facts::Recorded;
use crate::keys;
use crate::known_hosts;
use crate::module_args::{Args, words};
use crate::options::Run;
use crate::placement;
use crate::state::State;
use crate::store::Installation;

/// A directory without a record that is younger may be that of another run, which is about to make its VM.
const BEGINNING: std::time::Duration = std::time::Duration::from_secs(60);

/// Destroy it.
///
/// # Errors
/// Kind `unconfirmed` without the host's name or the VMID, `claimed` if a VMID confirms two hosts, `not_ours`, `hidden` or `protected`.
pub async fn run(context: &Context<'_>, state: State) -> Result<Outcome, Failure> {
    let host = &context.options.host;
    let vmid = state.facts.vm.as_ref().map(|vm| vm.vmid);
    confirmed(context, vmid)?;
    if let Some(elsewhere) = &state.facts.elsewhere {
        let crate::facts::Elsewhere::Named { vmid, name } = elsewhere else {
            let refused = crate::decide::decide(&state.facts);
            return Err(refused.expect_err("a hidden VM is refused").into());
        };
        return Err(StepError::OtherName {
            object: state.facts.name.clone(),
            host: host.clone(),
            vmid: *vmid,
            now: name.clone(),
        }
        .into());
    }
    let Some(vm) = &state.facts.vm else {
        return gone(context, &state).await;
    };
    let record = match &vm.record {
        Recorded::Ours(record) | Recorded::RolledBack(record) if record.host == *host => {
            record.clone()
        }
        other => return Err(foreign(vm.object.clone(), other, host).into()),
    };
    protected(&state, &vm.object)?;
    let check = context.task.check_mode;
    let expect = Record::find(state.notes()).map(|record| {
        let run = Run {
            installation: record.installation.clone(),
            id: record.run.clone(),
            found: None,
        };
        super::expect(&run, &[record.phase])
    });
    let expect = expect.filter(|_| matches!(vm.record, Recorded::Ours(_)));
    let seed = context.settings().no_seed();
    let mut outcomes = vec![
        context
            .drive(seed, vm.vmid, &state.node(context), expect.as_ref(), check)
            .await?,
    ];
    let mut args = Args::new();
    args.insert("vmid".into(), vm.vmid.into());
    args.insert("state".into(), "absent".into());
    args.insert("force".into(), true.into());
    let ownership = Ownership {
        expect,
        ..Ownership::default()
    };
    outcomes.push(context.vm(args, ownership, check).await?);
    let removed = outcomes
        .last()
        .map(|outcome| outcome.msg.clone())
        .unwrap_or_default();
    let installation = context.store.installation(&record.installation);
    if !check {
        forget(context, &installation, record.host_key.as_ref()).await?;
    }
    Ok(summed(removed, &outcomes))
}

fn confirmed(context: &Context<'_>, vmid: Option<u32>) -> Result<(), Error> {
    let host = &context.options.host;
    let said = words(context.settings().confirm_destroy.as_ref());
    if said.contains(host) {
        return Ok(());
    }
    if let Some(vmid) = vmid.filter(|vmid| said.contains(&vmid.to_string())) {
        // Every cluster counts its VMs from 100 on, so a number may be that of two machines of this play.
        let number = Claim {
            host: host.clone(),
            what: format!("the VMID {vmid}"),
            key: format!("confirmed {vmid}"),
            variable: "nixos_vm_confirm_destroy".into(),
        };
        return claims::claim(host, &[number]).map_err(|error| Error::ConfirmedByNumber {
            host: host.clone(),
            error: Box::new(error),
        });
    }
    Err(StepError::Unconfirmed { host: host.clone() }.into())
}

fn foreign(object: String, record: &Recorded, host: &str) -> StepError {
    match record {
        Recorded::None => StepError::NotMade { object },
        Recorded::Copied(record) => StepError::Copy {
            object,
            vmid: record.vmid,
        },
        Recorded::Ours(record) | Recorded::RolledBack(record) => StepError::OtherHost {
            object,
            owner: record.host.clone(),
            host: host.to_owned(),
        },
    }
}

fn protected(state: &State, object: &str) -> Result<(), StepError> {
    let protection = state
        .vm
        .as_ref()
        .and_then(|vm| vm.get("config")?.get("protection")?.as_str());
    if protection.and_then(parse_bool) != Some(true) {
        return Ok(());
    }
    Err(StepError::Protected {
        object: object.to_owned(),
    })
}

/// The VM is gone already: what is left of it goes too.
async fn gone(context: &Context<'_>, state: &State) -> Result<Outcome, Failure> {
    let mut outcomes = Vec::new();
    for gone in &state.gone {
        let record = &gone.known.record;
        // Another guest that has the number by now keeps its drives.
        if record.vmid != 0 && gone.free {
            outcomes.extend(remove_seed(context, state, record.vmid).await?);
        }
        if !context.task.check_mode {
            forget(context, &gone.installation, record.host_key.as_ref()).await?;
        }
        outcomes.push(Outcome::changed(""));
    }
    if !context.task.check_mode {
        placement::forget(context)?;
        context.store.remove_if_empty()?;
    }
    Ok(summed(
        format!("{} does not exist", state.facts.name),
        &outcomes,
    ))
}

/// Remove the seed of a VM that is gone: on the node that the inventory names, else wherever it is.
async fn remove_seed(
    context: &Context<'_>,
    state: &State,
    vmid: u32,
) -> Result<Vec<Outcome>, Failure> {
    let check = context.task.check_mode;
    let remove = async |node: &str| {
        let seed = context.settings().no_seed();
        context.drive(seed, vmid, node, None, check).await
    };
    let node = state.node(context);
    if !node.is_empty() {
        return Ok(vec![remove(&node).await?]);
    }
    let deadline = Deadline::after(std::time::Duration::from_secs(60));
    let inventory = Inventory::list(&context.client, &deadline).await?;
    let mut outcomes = Vec::new();
    for node in &inventory.online {
        match remove(node).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(failure) => context.task.warn(format!(
                "the seed of VM {vmid} was not looked for on node {node}: {}",
                failure.msg
            )),
        }
    }
    Ok(outcomes)
}

async fn forget(
    context: &Context<'_>,
    installation: &Installation,
    host_key: Option<&String>,
) -> Result<(), Failure> {
    let mut keys = keys::installed(installation);
    keys.extend(host_key.cloned());
    let path = context.known_hosts();
    if path.exists() && !keys.is_empty() {
        let deadline = Deadline::after(std::time::Duration::from_secs(60));
        known_hosts::edit(&path, &deadline, |text| known_hosts::without(text, &keys)).await?;
    }
    if path.starts_with(context.store.dir())
        && std::fs::metadata(&path).is_ok_and(|meta| meta.len() == 0)
    {
        let _ = std::fs::remove_file(&path);
    }
    installation.forget()?;
    placement::forget(context)?;
    build::remove_ended(&context.store);
    context.store.remove_strays(BEGINNING);
    Ok(context.store.remove_if_empty().map(drop)?)
}
