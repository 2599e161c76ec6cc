//! The VMs that the tasks of one controller made or asked for, and the names that they read of others.

use std::collections::{BTreeMap, BTreeSet};

use ansible_module::Failure;
use pve_module::{Lock, node_vms, seen_on};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::{Context, failed};
use crate::response_cache::{ResponseCache, now};

/// For how long a name is kept, in milliseconds: longer than tasks that could use it wait for each other.
const KEPT: u64 = 600_000;
/// How long a VM may exist before PVE's list of the cluster names it, in milliseconds: some broadcasts of pvestatd, one each 10 s.
const LISTED: u64 = 60_000;
/// How many VMs that were made here are remembered.
const MOST_MADE: usize = 5000;
/// The most VMs of one node whose names are read one by one.
const ONE_BY_ONE: usize = 3;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    /// Names of VMs that no list has yet.
    #[serde(default)]
    names: BTreeMap<u32, Named>,
    /// The VMs that were asked for here, by their names in lower case.
    #[serde(default)]
    made: BTreeMap<String, Made>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Named {
    node: String,
    name: String,
    /// When the VM had that name.
    at: u64,
    /// Whether a task of this controller made the VM, so that nobody else gave its VMID to another one.
    #[serde(default)]
    own: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Made {
    vmid: u32,
    at: u64,
}

/// The log for one cluster, as one caller sees it. It is in the note of a lock.
pub struct CreationLog {
    /// The answers of the API that the same tasks share.
    pub cache: ResponseCache,
}

impl CreationLog {
    /// The log that tasks with this caller share, for a task that begins now.
    pub fn new(cluster: &str, caller: &str) -> Self {
        Self {
            cache: ResponseCache::new(cluster, caller),
        }
    }

    /// Read the log, change it and write it, one task at a time. Without the log a task does what it would do alone.
    async fn edit<T>(
        &self,
        context: &Context<'_>,
        edit: impl AsyncFnOnce(&mut Book) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut lock = Lock::acquire(&self.cache.lock, context.deadline).await?;
        let text = lock.note().unwrap_or_default();
        let mut book: Book = serde_json::from_str(&text).unwrap_or_default();
        let done = edit(&mut book).await?;
        let oldest = now().saturating_sub(KEPT);
        book.names.retain(|_, named| named.at >= oldest);
        while book.made.len() > MOST_MADE {
            let first = book.made.iter().min_by_key(|(_, made)| made.at);
            let Some(name) = first.map(|(name, _)| name.clone()) else {
                break;
            };
            book.made.remove(&name);
        }
        let edited = json!(book).to_string();
        if edited != text {
            let _ = lock.leave_note(&edited);
        }
        Ok(done)
    }

    /// The VMs that tasks of this controller made just now. What PVE's list does not name yet was made seconds ago, so an older note
    /// of its VMID is another VM's.
    pub async fn own(&self, context: &Context<'_>) -> Result<BTreeSet<u32>, Failure> {
        self.edit(context, async |book| {
            let oldest = now().saturating_sub(LISTED);
            let own = book.names.iter();
            let own = own.filter(|(_, named)| named.own && named.at >= oldest);
            Ok(own.map(|(vmid, _)| *vmid).collect())
        })
        .await
    }

    /// The names of VMs that PVE's list does not name, not older than `since`, each read once by all tasks. Those of VMs that tasks of
    /// this controller made since this one began need not be read.
    pub async fn names_of(
        &self,
        context: &Context<'_>,
        vms: Vec<(u32, String)>,
        since: u64,
    ) -> Result<BTreeMap<u32, String>, Failure> {
        self.edit(context, async |book| {
            let mut names = BTreeMap::new();
            let mut unknown: BTreeMap<String, Vec<u32>> = BTreeMap::new();
            for (vmid, node) in vms {
                let counts = |known: &&Named| {
                    let since = if known.own { self.cache.began } else { since };
                    known.node == node && known.at >= since
                };
                match book.names.get(&vmid).filter(counts) {
                    Some(known) => drop(names.insert(vmid, known.name.clone())),
                    None => unknown.entry(node).or_default().push(vmid),
                }
            }
            for (node, vmids) in unknown {
                let at = now();
                for (vmid, name) in read_names(context, &node, &vmids).await? {
                    // One that is locked by its creation gets its name with that.
                    if !name.is_empty() {
                        let named = Named {
                            node: node.clone(),
                            name: name.clone(),
                            at,
                            own: false,
                        };
                        book.names.insert(vmid, named);
                    }
                    names.insert(vmid, name);
                }
            }
            Ok(names)
        })
        .await
    }

    /// Note that this VMID is asked for, for a VM of this name.
    pub async fn asks(&self, context: &Context<'_>, vmid: u32, name: &str) -> Result<(), Failure> {
        self.edit(context, async |book| {
            let made = Made { vmid, at: now() };
            book.made.insert(name.to_ascii_lowercase(), made);
            Ok(())
        })
        .await
    }

    /// Note that the VM was made.
    pub async fn made(
        &self,
        context: &Context<'_>,
        vmid: u32,
        node: &str,
        name: &str,
    ) -> Result<(), Failure> {
        self.edit(context, async |book| {
            let named = Named {
                node: node.to_owned(),
                name: name.to_owned(),
                at: now(),
                own: true,
            };
            book.names.insert(vmid, named);
            Ok(())
        })
        .await
    }

    /// Note that the VM was removed, so that its VMID may be another's.
    pub async fn removed(
        &self,
        context: &Context<'_>,
        vmid: u32,
        name: &str,
    ) -> Result<(), Failure> {
        self.edit(context, async |book| {
            book.names.remove(&vmid);
            book.made.remove(&name.to_ascii_lowercase());
            Ok(())
        })
        .await
    }

    /// Forget the VM of this name: it was not made here, or is gone.
    pub async fn forget(&self, context: &Context<'_>, name: &str) -> Result<(), Failure> {
        self.edit(context, async |book| {
            book.made.remove(&name.to_ascii_lowercase());
            Ok(())
        })
        .await
    }

    /// The VMID that was last asked for here for a VM of this name.
    pub async fn asked_for(
        &self,
        context: &Context<'_>,
        name: &str,
    ) -> Result<Option<u32>, Failure> {
        self.edit(context, async |book| {
            let made = book.made.get(&name.to_ascii_lowercase());
            Ok(made.map(|made| made.vmid))
        })
        .await
    }
}

/// The names of these VMs of a node as they are now; none of one that is gone.
async fn read_names(
    context: &Context<'_>,
    node: &str,
    vmids: &[u32],
) -> Result<Vec<(u32, String)>, Failure> {
    if vmids.len() > ONE_BY_ONE {
        let entries = node_vms(context.client, node, context.deadline).await?;
        let seen = seen_on(node, entries.unwrap_or_default())?;
        let these = seen
            .into_iter()
            .filter(|seen| vmids.contains(&seen.vm.vmid));
        return Ok(these.map(|seen| (seen.vm.vmid, seen.vm.name)).collect());
    }
    let mut names = Vec::new();
    for vmid in vmids {
        let config = context
            .client
            .vm_config(node, *vmid, false, context.deadline)
            .await;
        match config {
            Ok(config) => {
                let name = config.get("name").and_then(Value::as_str);
                names.push((*vmid, name.unwrap_or_default().to_owned()));
            }
            // Gone, or moved on: it cannot be the one that was there before this task.
            Err(error) if error.not_found() => {}
            Err(error) => return Err(failed("read", &format!("VM {vmid}"))(error)),
        }
    }
    Ok(names)
}
