//! Creating a VM: once, whatever becomes of the answers, and however many do so at the same time.

use std::time::Duration;

use ansible_module::Failure;
use pve_client::property::PropertyString;
use pve_client::{Error as ApiError, Params};
use pve_module::random;
use pve_module::record::{Record, with_record};
use pve_module::{Lock, Seen};
use serde_json::{Map, Value};

use crate::cluster::creation_log::CreationLog;
use crate::cluster::vmid::VmidRange;
use crate::cluster::{creation_progress, locks};
use crate::config::text;
use crate::context::{Context, done as made, failed};
use crate::desired::Desired;
use crate::error::Error;
use crate::plan::Plan;
use crate::precheck::tags;
use crate::state::State;

/// The pause between two looks at a VM whose creation was not answered.
const LOOK: Duration = Duration::from_millis(500);
/// How often a missing VM is looked for before its creation is asked for again.
const LOOKS: u32 = 6;

/// What to create, and where.
pub struct Creation<'a> {
    /// The node.
    pub node: &'a str,
    /// The VMID, if the user gave one.
    pub vmid: Option<u32>,
    /// The VMIDs to choose from, if the user gave some.
    pub range: Option<VmidRange>,
    /// What makes the VM.
    pub request: Request<'a>,
    /// The cluster, for locks.
    pub cluster: &'a str,
    /// What is wanted, for the record in the notes, which names the VMID.
    pub desired: &'a Desired,
    /// The VM's name.
    pub name: &'a str,
    /// Where other tasks of this controller read that this task makes the VM.
    pub log: &'a CreationLog,
}

/// What makes the VM.
pub enum Request<'a> {
    /// All that it is made of.
    New(&'a Plan),
    /// A clone of this template, with these parameters, `name` among them.
    Clone(&'a State, Params),
}

/// By what a VM is recognised as the one that was asked for.
enum Mark {
    /// The UUID in its `smbios1`.
    Uuid(String),
    /// Its name: PVE makes up the UUID of a clone. Who else asks for a clone of that name wants the same VM.
    Name(String),
    /// The installation that the record in its notes names, which nobody else can: that of a clone of the lifecycle's.
    Installation(String),
}

/// How a VM is asked for.
struct Call<'a> {
    path: String,
    params: Params,
    /// The parameter that gives the new VMID.
    id: &'static str,
    mark: Mark,
    /// The nodes that it may be on until it is made.
    nodes: Vec<&'a str>,
}

impl<'a> Call<'a> {
    fn of(creation: &'a Creation<'_>) -> Result<Self, Failure> {
        match &creation.request {
            Request::New(plan) => {
                let (params, uuid) = marked(plan)?;
                Ok(Self {
                    path: format!("/nodes/{}/qemu", creation.node),
                    params,
                    id: "vmid",
                    mark: Mark::Uuid(uuid),
                    nodes: vec![creation.node],
                })
            }
            Request::Clone(source, params) => Ok(Self {
                path: format!("/nodes/{}/qemu/{}/clone", source.node, source.vmid),
                params: params.clone(),
                id: "newid",
                mark: match &creation.desired.record {
                    Some(record) => Mark::Installation(record.installation.clone()),
                    None => Mark::Name(params.get("name").unwrap_or_default().to_owned()),
                },
                nodes: vec![creation.node, &source.node],
            }),
        }
    }
}

/// What became of a creation.
pub enum Created {
    /// The VM is there.
    Made {
        /// Its ID.
        vmid: u32,
        /// Whether this task made it for certain. After a lost answer a clone is recognised by its name only.
        certain: bool,
    },
    /// The VMID that the user gave belongs to something else.
    Taken(ApiError),
}

/// What became of asking for a VM with one VMID.
enum Asked {
    /// It is there, and it is ours, for certain or by its name.
    Made(bool),
    /// The VMID belongs to somebody else.
    Taken(ApiError),
    /// PVE refused its tags, so there is no VM.
    TagsRefused,
}

/// Create the VM. `turn` is held until PVE has given the VMID away.
///
/// PVE gives no VMID away twice, but its `nextid` is only a hint: of several that ask with one VMID all but one are told
/// that it exists, and try the next. A VM of ours is recognised by the UUID in its `smbios1`, which every VM has and
/// which is made here instead of by PVE.
pub async fn create(
    context: &Context<'_>,
    creation: &Creation<'_>,
    turn: Lock,
) -> Result<Created, Failure> {
    let mut call = Call::of(creation)?;
    let mut tried = None;
    let mut turn = Some(turn);
    let mut tags = None;
    loop {
        let this_turn = match turn.take() {
            Some(turn) => turn,
            None => Lock::acquire(&locks::turn(creation.cluster), context.deadline).await?,
        };
        let vmid = match creation.vmid {
            Some(vmid) => vmid,
            None => match creation.range {
                Some(range) => range.free(context, tried).await?,
                None => {
                    let free = context.client.next_id(context.deadline).await;
                    let free = free.map_err(pve_module::doing("ask for a free VMID"))?;
                    // A VMID that was taken and is still said to be free belongs to something that cannot be seen yet.
                    tried.map_or(free, |last: u32| free.max(last + 1))
                }
            },
        };
        call.params.set(call.id, vmid);
        if let Some(record) = creation.desired.record_for(vmid) {
            let notes = creation.desired.plain.get("description").cloned().flatten();
            let notes = with_record(&notes.unwrap_or_default(), Some(&record.to_string()));
            call.params.set("description", notes);
        }
        // Tells other tasks of this controller that somebody looks after this VM while it has no name yet.
        let _creating =
            Lock::acquire(&locks::creating(creation.cluster, vmid), context.deadline).await?;
        let (log, name) = (creation.log, creation.name);
        log.asks(context, vmid, name).await?;
        match ask(context, &call, vmid, this_turn).await? {
            Asked::TagsRefused => {
                let refused = call.params.get("tags").unwrap_or_default().to_owned();
                let allowed = tags::check_refused(context, &refused, &format!("VM {name}")).await?;
                call.params.remove("tags");
                tags = Some(allowed);
            }
            Asked::Made(certain) => {
                if let Some(tags) = tags {
                    tag(context, creation.node, vmid, tags).await?;
                }
                log.made(context, vmid, creation.node, name).await?;
                return Ok(Created::Made { vmid, certain });
            }
            Asked::Taken(error) => {
                log.forget(context, name).await?;
                if creation.vmid.is_some() {
                    return Ok(Created::Taken(error));
                }
                tried = Some(vmid);
            }
        }
    }
}

/// Ask for the VM. When the answer is lost it is asked for again with the same VMID: PVE makes at most one VM of a VMID,
/// so a second request cannot make a second VM, and is told if the first one came through.
async fn ask(
    context: &Context<'_>,
    call: &Call<'_>,
    vmid: u32,
    turn: Lock,
) -> Result<Asked, Failure> {
    let object = format!("VM {vmid}");
    context.report_step("create", &object);
    let mut turn = Some(turn);
    let mut unsure = false;
    let certain = !matches!(call.mark, Mark::Name(_));
    loop {
        let error = match context
            .client
            .post(&call.path, &call.params, context.deadline)
            .await
        {
            Ok(answer) => {
                // From here on the VMID is ours.
                drop(turn.take());
                let upid = answer.as_str().unwrap_or_default().to_owned();
                match context
                    .client
                    .task(&upid, context.deadline, context.watcher("create", &object))
                    .await
                {
                    Ok(_) => return Ok(Asked::Made(true)),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if is_tag_refusal(&error) && call.params.get("tags").is_some() {
            return Ok(Asked::TagsRefused);
        }
        if is_taken(&error) {
            // Ours, if an earlier request came through without an answer.
            let ours = unsure && is_ours(context, call, vmid).await? == Some(true);
            return Ok(if ours {
                Asked::Made(certain)
            } else {
                Asked::Taken(error)
            });
        }
        if !error.may_have_happened() || context.deadline.expired() {
            return Err(failed("create", &object)(error));
        }
        unsure = true;
        match is_ours(context, call, vmid).await? {
            Some(true) => return Ok(Asked::Made(certain)),
            Some(false) => return Ok(Asked::Taken(error)),
            None => {}
        }
    }
}

/// Whether the VM is there and has our mark; nothing if it does not appear.
async fn is_ours(
    context: &Context<'_>,
    call: &Call<'_>,
    vmid: u32,
) -> Result<Option<bool>, Failure> {
    let object = format!("VM {vmid}");
    let (mut missing, mut locked) = (0, 0);
    loop {
        match config(context, call, vmid).await {
            // While PVE works on it there is a lock and nothing else.
            Ok(Some((node, config))) if config.contains_key("lock") => {
                locked += 1;
                if locked % LOOKS == 0 {
                    let lock = config
                        .get("lock")
                        .and_then(text::scalar)
                        .unwrap_or_default();
                    refuse_if_cut_off(context, node, vmid, &lock).await?;
                }
            }
            Ok(Some((_, config))) => {
                let text = |key: &str| {
                    let value = config.get(key).and_then(text::scalar);
                    value.unwrap_or_default()
                };
                return Ok(Some(match &call.mark {
                    Mark::Uuid(uuid) => uuid_of(&text("smbios1"))
                        .is_some_and(|found| found.eq_ignore_ascii_case(uuid)),
                    Mark::Name(name) => text("name").eq_ignore_ascii_case(name),
                    Mark::Installation(installation) => {
                        let record = Record::find(&text("description"));
                        record.is_some_and(|record| record.installation == *installation)
                    }
                }));
            }
            Ok(None) => {
                missing += 1;
                if missing >= LOOKS {
                    return Ok(None);
                }
            }
            Err(error) => return Err(failed("read", &object)(error)),
        }
        if !context.deadline.sleep(LOOK).await {
            let what = format!("{object} to be created after its answer was lost");
            return Err(context
                .deadline
                .expired_error(what, context.deadline.limit())
                .into());
        }
    }
}

/// The VM's configuration, if it is on one of the nodes.
async fn config<'a>(
    context: &Context<'_>,
    call: &Call<'a>,
    vmid: u32,
) -> Result<Option<(&'a str, Map<String, Value>)>, ApiError> {
    for node in &call.nodes {
        match context
            .client
            .vm_config(node, vmid, false, context.deadline)
            .await
        {
            Err(error) if error.not_found() => {}
            other => return other.map(|config| Some((*node, config))),
        }
    }
    Ok(None)
}

/// Refuse to wait for a VM that PVE has stopped to make: pvedaemon was killed after it wrote the lock.
async fn refuse_if_cut_off(
    context: &Context<'_>,
    node: &str,
    vmid: u32,
    lock: &str,
) -> Result<(), Failure> {
    let entry = serde_json::json!({"vmid": vmid, "lock": lock});
    for seen in pve_module::seen_on(node, vec![entry])? {
        let seen: Seen = seen;
        if creation_progress::is_in_the_making(&seen)
            && !creation_progress::await_making(context, &seen).await?
        {
            return Err(Error::cut_off(node, vmid, lock).into());
        }
    }
    Ok(())
}

/// Set the tags that PVE refused when the VM was made.
async fn tag(context: &Context<'_>, node: &str, vmid: u32, tags: String) -> Result<(), Failure> {
    let path = format!("/nodes/{node}/qemu/{vmid}/config");
    let params = Params::new().with("tags", tags);
    let done = context.client.put(&path, &params, context.deadline).await;
    let object = format!("VM {vmid}");
    done.map(drop)
        .map_err(|error| made(failed("set the tags of", &object)(error), vmid, node))
}

/// Whether PVE says that the caller may not set a tag (assert_tag_permissions in PVE::GuestHelpers).
fn is_tag_refusal(error: &ApiError) -> bool {
    let text = "Sys.Modify for modifying tag";
    error
        .pve_message()
        .is_some_and(|message| message.contains(text))
}

fn is_taken(error: &ApiError) -> bool {
    // Not every "already exists" is about the VMID: a left-over volume says so too.
    let texts = ["already exists on node", "config file already exists"];
    error
        .pve_message()
        .is_some_and(|message| texts.iter().any(|text| message.contains(text)))
}

/// The parameters with a UUID in `smbios1`, and that UUID: the user's, or a new one.
fn marked(plan: &Plan) -> Result<(Params, String), Failure> {
    let given = plan
        .set
        .get("smbios1")
        .map(String::as_str)
        .unwrap_or_default();
    let (smbios, uuid) = match uuid_of(given) {
        Some(uuid) => (given.to_owned(), uuid),
        None => {
            let uuid = random::uuid()?;
            let rest = if given.is_empty() {
                String::new()
            } else {
                format!(",{given}")
            };
            (format!("uuid={uuid}{rest}"), uuid)
        }
    };
    let params: Params = plan.set.iter().map(|(k, v)| (k.as_str(), v)).collect();
    Ok((params.with("smbios1", smbios), uuid))
}

fn uuid_of(smbios: &str) -> Option<String> {
    Some(
        PropertyString::parse(smbios, None)
            .ok()?
            .get("uuid")?
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(smbios: Option<&str>) -> Plan {
        let mut plan = Plan::default();
        plan.set
            .extend(smbios.map(|text| ("smbios1".to_owned(), text.to_owned())));
        plan
    }

    #[test]
    fn every_new_vm_is_marked() {
        let (params, uuid) = marked(&plan(None)).unwrap();
        assert_eq!(params.get("smbios1"), Some(format!("uuid={uuid}").as_str()));
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_ne!(uuid, marked(&plan(None)).unwrap().1);

        let (params, uuid) = marked(&plan(Some("serial=x"))).unwrap();
        assert_eq!(
            params.get("smbios1"),
            Some(format!("uuid={uuid},serial=x").as_str())
        );

        let theirs = "uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d,serial=x";
        let (params, uuid) = marked(&plan(Some(theirs))).unwrap();
        assert_eq!(
            (params.get("smbios1"), uuid.as_str()),
            (Some(theirs), "6cff0931-1cb7-4535-800e-09aaaede1e6d")
        );
    }
}
