//! One task from its options to its result.

use ansible_module::{Failure, FailureKind, Outcome, Task};
use pve_module::{Context, Session, check_vms_visible, doing};
use serde_json::Value;

use crate::list::{self, Vm, is_wanted};
use crate::options::Options;
use crate::{details, names, report};

/// Do the task.
///
/// # Errors
/// Kind `invalid_option` for mistakes in the options, before any request; otherwise those of the API. What cannot be read of single VMs is
/// a warning.
pub async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
    let mistakes = options.mistakes();
    if !mistakes.is_empty() {
        return Err(Failure::new(
            FailureKind::InvalidOption,
            mistakes.join("; "),
        ));
    }
    let session = Session::open(&options.connection, options.timeout, None, task)?;
    let outcome = inventory(&session.context(), &options).await;
    session.explain(outcome).await
}

async fn inventory(context: &Context<'_>, options: &Options) -> Result<Outcome, Failure> {
    let query = [("type", "vm".to_owned())];
    let read = context
        .client
        .read_as("/cluster/resources", &query, context.deadline)
        .await;
    let entries: Vec<Value> = read.map_err(doing("list the cluster's VMs"))?;
    let (all, invalid) = list::parse(&entries);
    if all.is_empty() {
        check_vms_visible(context.client, context.deadline).await?;
    }
    if invalid > 0 {
        context.task.warn(format!("{invalid} entries of Proxmox VE's list of VMs have no valid VMID and node; they are left out"));
    }
    unmatched(options, &all)
        .into_iter()
        .for_each(|text| context.task.warn(text));

    let vms: Vec<&Vm> = all.iter().filter(|vm| is_wanted(vm, options)).collect();
    let (hosts, warnings) = names::of(&vms);
    warnings
        .into_iter()
        .for_each(|text| context.task.warn(text));
    let details = details::read(context, options, &vms).await;
    let warnings = details::warnings(options, &vms, &details);
    warnings
        .into_iter()
        .for_each(|text| context.task.warn(text));

    let each = hosts.iter().zip(&vms).zip(&details);
    let shown: Vec<Value> = each
        .map(|((host, vm), details)| report::host(options, host, vm, details))
        .collect();
    let count = shown.len();
    Ok(
        Outcome::unchanged(format!("{count} of {} VMs are listed", all.len()))
            .with("hosts", shown)
            .with("groups", report::usual_groups(options)),
    )
}

/// Filters that fit no VM at all, which are likely to be misspelt.
fn unmatched(options: &Options, vms: &[Vm]) -> Vec<String> {
    let any = |fits: &dyn Fn(&Vm) -> bool| vms.iter().any(fits);
    let nodes = options
        .nodes
        .iter()
        .filter(|node| !any(&|vm| vm.node == **node));
    let pools = options
        .pools
        .iter()
        .filter(|pool| !any(&|vm| vm.pool.as_ref() == Some(pool)));
    let tags = options
        .tags
        .iter()
        .filter(|tag| !any(&|vm| vm.tags.contains(tag)));
    let named = |option: &'static str| {
        move |value| format!("{option}: no VM that the caller may see fits '{value}'")
    };
    nodes
        .map(named("nodes"))
        .chain(pools.map(named("pools")))
        .chain(tags.map(named("tags")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_that_fits_nothing_is_named() {
        let vms = [Vm {
            node: "pve1".into(),
            tags: vec!["web".into()],
            ..Vm::default()
        }];
        let options = crate::options::given(
            json!({"nodes": ["pve1"], "tags": ["web", "wbe"], "pools": ["p"]}),
        );
        assert_eq!(
            unmatched(&options, &vms),
            [
                "pools: no VM that the caller may see fits 'p'",
                "tags: no VM that the caller may see fits 'wbe'"
            ]
        );
    }
}
