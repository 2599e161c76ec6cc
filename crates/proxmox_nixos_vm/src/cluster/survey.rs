//! What the tasks of one controller tell each other about a cluster, so that many that make VMs at once need not ask the same.
//!
//! Nothing here is older than the task that uses it: an answer counts only if it was asked for after that task began. So a task
//! that shares an answer knows no less than one that asks for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use ansible_module::Failure;
use pve_client::Error;
use pve_module::{Inventory, Lock, Seen, doing, node_vms, seen_on};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::identify::is_in_the_making;
use crate::context::Context;
use crate::context::failed;

/// For how long a name is kept, in milliseconds: longer than tasks that could use it wait for each other.
const KEPT: u64 = 600_000;
/// How long a VM may exist before PVE's list of the cluster names it, in milliseconds: some broadcasts of pvestatd, one each 10 s.
const LISTED: u64 = 60_000;
/// How many VMs that were made here are remembered.
const MOST_MADE: usize = 5000;

/// A point in time, in milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    /// Names of VMs that no list has yet.
    #[serde(default)]
    names: BTreeMap<u32, Named>,
    /// The VMs that were asked for here, by their names in lower case.
    #[serde(default)]
    made: BTreeMap<String, Made>,
}

/// An answer of the API.
#[derive(Debug, Deserialize)]
struct Answer {
    /// When it was asked for.
    began: u64,
    value: Value,
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

/// The notes for one cluster, as one caller sees it.
pub struct Notes {
    lock: String,
    /// When the task that uses them began.
    pub began: u64,
}

/// How old an answer may be, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// PVE's list of the cluster.
    pub list: u64,
    /// The names of VMs that have none in that list yet.
    pub names: u64,
}

impl Since {
    /// Both from this moment on.
    pub fn now() -> Self {
        Self::at(now())
    }

    /// Both from that moment on.
    pub fn at(moment: u64) -> Self {
        Self {
            list: moment,
            names: moment,
        }
    }
}

/// What a look at the cluster found.
pub struct Survey {
    /// The VMs with their names of this moment, except those that PVE still makes, which have none.
    pub inventory: Inventory,
    /// VMs that are so new that PVE's own list has no name for them, and that no task of this controller made.
    pub young: BTreeSet<u32>,
}

impl Notes {
    /// The notes that tasks with this caller share, for a task that begins now.
    pub fn new(cluster: &str, caller: &str) -> Self {
        Self {
            lock: format!("notes {cluster} {caller}"),
            began: now(),
        }
    }

    /// Read the notes, change them and write them, one task at a time. Without notes a task does what it would do alone.
    async fn edit<T>(
        &self,
        context: &Context<'_>,
        edit: impl AsyncFnOnce(&mut Book) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut lock = Lock::acquire(&self.lock, context.deadline).await?;
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

    /// The answer that a task got here since `since`, or else the one that `ask` gets. Only one task asks at a time: whoever waits for
    /// it has the same answer, if it was asked for late enough.
    async fn answer<E>(
        &self,
        context: &Context<'_>,
        key: &str,
        since: u64,
        ask: impl AsyncFnOnce() -> Result<Value, E>,
    ) -> Result<Result<Value, E>, Failure> {
        let mut lock = Lock::acquire(&format!("{} {key}", self.lock), context.deadline).await?;
        let text = lock.note().unwrap_or_default();
        let known = serde_json::from_str(&text).ok();
        let known = known.filter(|known: &Answer| (since..=now()).contains(&known.began));
        if let Some(known) = known {
            return Ok(Ok(known.value));
        }
        let began = now();
        let answer = ask().await;
        if let Ok(value) = &answer {
            // Without the note the others ask for themselves.
            let _ = lock.leave_note(&json!({"began": began, "value": value}).to_string());
        }
        Ok(answer)
    }

    /// GET, or the answer that another task got since this one began.
    pub async fn get(
        &self,
        context: &Context<'_>,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Result<Value, Error>, Failure> {
        let query_text: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let key = format!("{path} {}", query_text.join("&"));
        let ask = async || context.client.get(path, query, context.deadline).await;
        self.answer(context, &key, self.began, ask).await
    }

    /// The VMs that exist, with the names that they have. Neither is older than `since` says. `nodes` are the nodes that were up when
    /// the task began, `wanted` the name that matters.
    ///
    /// A VMID is used again as soon as its VM is removed. So the name of a VM that PVE's list does not name yet counts for a moment only.
    ///
    /// VMIDs, nodes and locks are those of PVE's list of the cluster. The nodes have told the names of the VMs that there were,
    /// once for all tasks that had begun by then, and a VM that is in no such list is read by itself.
    pub async fn survey(
        &self,
        context: &Context<'_>,
        nodes: &[String],
        since: Since,
        desired: Option<&str>,
    ) -> Result<Survey, Failure> {
        let mut told: BTreeMap<u32, Seen> = BTreeMap::new();
        let mut down = Vec::new();
        for node in nodes {
            match self.vms_of(context, node).await? {
                Some(seen) => told.extend(seen.into_iter().map(|seen| (seen.vm.vmid, seen))),
                None => down.push(node),
            }
        }
        // After the nodes, so that whatever is in their lists only is gone since.
        let ask = async || {
            let all = context
                .client
                .get("/cluster/resources", &[], context.deadline)
                .await;
            all.map(compact).map_err(doing("list the cluster's VMs"))
        };
        let entries = self
            .answer(context, "/cluster/resources", since.list, ask)
            .await??;
        let mut inventory = Inventory::of(match entries {
            Value::Array(entries) => entries,
            _ => Vec::new(),
        })?;
        down.into_iter().for_each(|node| inventory.is_down(node));
        let is_wanted =
            |name: &str| desired.is_some_and(|desired| desired.eq_ignore_ascii_case(name));
        let nameless = inventory.vms.iter().filter(|seen| seen.vm.name.is_empty());
        let mut young: BTreeSet<u32> = nameless.map(|seen| seen.vm.vmid).collect();
        let own = match young.is_empty() {
            true => BTreeSet::new(),
            false => self.own(context).await?,
        };
        young.retain(|vmid| !own.contains(vmid));
        let mut unknown = Vec::new();
        for seen in &mut inventory.vms {
            let listed = std::mem::take(&mut seen.vm.name);
            if is_in_the_making(seen) {
                continue;
            }
            let may_be_another = young.contains(&seen.vm.vmid) && since.names > self.began;
            match told.remove(&seen.vm.vmid) {
                Some(before)
                    if !before.vm.name.is_empty()
                        && !is_in_the_making(&before)
                        && !may_be_another =>
                {
                    let renamed = !listed.is_empty() && listed != before.vm.name;
                    if renamed && (is_wanted(&listed) || is_wanted(&before.vm.name)) {
                        unknown.push((seen.vm.vmid, seen.node.clone()));
                    }
                    let lock = seen.vm.lock.take();
                    seen.vm = before.vm;
                    seen.vm.lock = lock;
                }
                _ if listed.is_empty() => unknown.push((seen.vm.vmid, seen.node.clone())),
                _ => seen.vm.name = listed,
            }
        }
        if !unknown.is_empty() {
            let names = self.names_of(context, unknown, since.names).await?;
            for seen in &mut inventory.vms {
                if let Some(name) = names.get(&seen.vm.vmid) {
                    seen.vm.name.clone_from(name);
                }
            }
        }
        Ok(Survey { inventory, young })
    }

    /// The VMs of a node with their names, not older than this task; nothing when the node does not answer.
    async fn vms_of(
        &self,
        context: &Context<'_>,
        node: &str,
    ) -> Result<Option<Vec<Seen>>, Failure> {
        let ask = async || {
            let entries = node_vms(context.client, node, context.deadline).await;
            entries.map(|entries| compact(json!(entries)))
        };
        let key = format!("/nodes/{node}/qemu");
        let entries = self.answer(context, &key, self.began, ask).await??;
        match entries {
            Value::Array(entries) => seen_on(node, entries).map(Some),
            _ => Ok(None),
        }
    }

    /// The VMs that tasks of this controller made just now. What PVE's list does not name yet was made seconds ago, so an older note
    /// of its VMID is another VM's.
    async fn own(&self, context: &Context<'_>) -> Result<BTreeSet<u32>, Failure> {
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
    async fn names_of(
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
                    let since = if known.own { self.began } else { since };
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

/// The most VMs of one node whose names are read one by one.
const ONE_BY_ONE: usize = 3;

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
            Err(error) => return Err(failed("read", &format!("VM {vmid}"), error)),
        }
    }
    Ok(names)
}

/// The entries of a list with what is needed of them only. No list (a node that does not answer) stays none.
fn compact(entries: Value) -> Value {
    const NEEDED: [&str; 11] = [
        "type", "node", "vmid", "name", "status", "tags", "template", "lock", "maxmem", "mem", "id",
    ];
    let Value::Array(mut entries) = entries else {
        return entries;
    };
    entries.retain(|entry| {
        let kind = entry.get("type").and_then(Value::as_str);
        kind.is_none_or(|kind| matches!(kind, "node" | "qemu" | "lxc"))
    });
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        entry.retain(|key, _| NEEDED.contains(&key.as_str()));
    }
    Value::Array(entries)
}
