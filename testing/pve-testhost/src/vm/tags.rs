//! Tags: how PVE stores them, and who may set which.

use std::collections::BTreeSet;

use crate::access::Identity;
use crate::datacenter::{Datacenter, UserAllow};
use crate::error::ApiError;
use crate::formats::list;
use crate::host::Host;

use super::config::Config;

/// Each once, in lower case and sorted, unless `tag-style` says otherwise.
pub fn unique(host: &Host, value: &str) -> String {
    let datacenter = Datacenter::read(&host.dir);
    let mut tags: Vec<String> = list(value).into_iter().map(str::to_owned).collect();
    if !datacenter.is_case_sensitive() {
        for tag in &mut tags {
            *tag = tag.to_lowercase();
        }
    }
    if !datacenter.keeps_tag_order() {
        tags.sort();
    }
    let mut seen = BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    tags.join(";")
}

/// What somebody may do to tags.
struct Allowed {
    tags: BTreeSet<String>,
    registered: BTreeSet<String>,
    free: bool,
}

fn is_privileged(host: &Host, who: &Identity) -> bool {
    host.access.has(who, "/", "Sys.Modify")
}

fn allowed(host: &Host, who: &Identity) -> Allowed {
    let datacenter = Datacenter::read(&host.dir);
    let privileged = is_privileged(host, who);
    let owned = |tags: Vec<&str>| tags.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let registered: BTreeSet<String> = owned(datacenter.registered_tags()).into_iter().collect();
    let user_allow = datacenter.user_allow();
    let mut tags = BTreeSet::new();
    if user_allow != UserAllow::None || privileged {
        tags.extend(owned(datacenter.user_allow_list()));
    }
    if matches!(user_allow, UserAllow::Free | UserAllow::Existing) || privileged {
        for (node, vmid) in super::everywhere(host) {
            let path = format!("/vms/{vmid}");
            if !privileged && !host.access.has(who, &path, "VM.Audit") {
                continue;
            }
            if let Ok(config) = Config::load(&node, vmid)
                && let Some(known) = config.current.get("tags")
            {
                tags.extend(owned(list(known)));
            }
        }
    }
    if privileged {
        tags.extend(registered.iter().cloned());
    } else {
        tags.retain(|tag| !registered.contains(tag));
    }
    Allowed {
        tags,
        registered,
        free: user_allow == UserAllow::Free,
    }
}

/// The tags that somebody may set, as GET /cluster/options tells them.
pub fn allowed_tags(host: &Host, who: &Identity) -> Vec<String> {
    allowed(host, who).tags.into_iter().collect()
}

/// Fail unless somebody may change the tags of a VM from `old` to `new`.
pub fn check_change(
    host: &Host,
    who: &Identity,
    vmid: u32,
    old: &str,
    new: &str,
) -> Result<(), ApiError> {
    check_changed(host, who, vmid, &list(old), &list(new))
}

/// The same for a new VM. PVE 9.2 passes an empty hash for the old tags, whose text it then takes for a tag that goes away: unless all
/// tags are free, nobody without Sys.Modify on / can create a VM with tags, allowed ones included.
pub fn check_create(host: &Host, who: &Identity, vmid: u32, new: &str) -> Result<(), ApiError> {
    check_changed(host, who, vmid, &["HASH(0x5a1d0c3f8e58)"], &list(new))
}

fn check_changed(
    host: &Host,
    who: &Identity,
    vmid: u32,
    old: &[&str],
    new: &[&str],
) -> Result<(), ApiError> {
    // Without the pool in which the VM is to be: a right there does not count.
    host.access
        .check(who, &format!("/vms/{vmid}"), &["VM.Config.Options"])?;
    if is_privileged(host, who) {
        return Ok(());
    }
    let allowed = allowed(host, who);
    let count = |tags: &[&str], tag: &str| tags.iter().filter(|known| **known == tag).count();
    for tag in old.iter().chain(new) {
        let refused =
            (!allowed.tags.contains(*tag) && !allowed.free) || allowed.registered.contains(*tag);
        if refused && count(old, tag) != count(new, tag) {
            let what = format!("Sys.Modify for modifying tag '{tag}'");
            return Err(ApiError::forbidden("/", &what));
        }
    }
    Ok(())
}
