//! What is there: the storage, the volume on it, and who is writing it.

use std::time::Duration;

use ansible_module::Failure;
use futures_util::StreamExt;
use pve_client::{Content, Storage, StorageContent, Upid, Vm, Volid};
use pve_module::{Context, doing, permission_denied};
use serde_json::Value;

use crate::address::Address;
use crate::error::{Error, StorageProblem};
use crate::fetch::Facts;

/// Check that `storage` of `node` can be used for such files now, in words better than those that PVE
/// has after the transfer.
pub async fn usable_storage(
    context: &Context<'_>,
    node: &str,
    storage: &str,
    content: Content,
) -> Result<Storage, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let nodes = client
        .nodes(deadline)
        .await
        .map_err(doing("list the nodes"))?;
    if !nodes.iter().any(|known| known.node == node) {
        let node = node.to_owned();
        let available = nodes.into_iter().map(|known| known.node).collect();
        return Err(Error::NodeNotFound { node, available }.into());
    }
    let all = client
        .storages(node, None, deadline)
        .await
        .map_err(doing(format!("list the storages of node {node}")))?;
    let Some(found) = all.iter().find(|known| known.storage == storage) else {
        if all.is_empty() {
            let path = format!("/storage/{storage}");
            return Err(permission_denied(client, &path, "Datastore.Audit"));
        }
        let problem = StorageProblem::NotFound {
            node: node.to_owned(),
            caller: client.caller().to_owned(),
        };
        return Err(unusable(storage, node, &all, content, problem).into());
    };
    let problem = if !found.holds(content.name()) {
        let has = found.content.clone();
        StorageProblem::Content { content, has }
    } else if !found.enabled {
        StorageProblem::Disabled
    } else if !found.active {
        let node = node.to_owned();
        StorageProblem::Inactive { node }
    } else {
        return Ok(found.clone());
    };
    Err(unusable(storage, node, &all, content, problem).into())
}

fn unusable(
    storage: &str,
    node: &str,
    all: &[Storage],
    content: Content,
    problem: StorageProblem,
) -> Error {
    let holds = |one: &&Storage| one.enabled && one.holds(content.name());
    let usable = all.iter().filter(holds);
    Error::Storage {
        storage: storage.to_owned(),
        node: node.to_owned(),
        problem,
        content,
        usable: usable.map(|one| one.storage.clone()).collect(),
    }
}

/// The files of a content type on a storage, with their exact sizes.
pub async fn files(
    context: &Context<'_>,
    node: &str,
    storage: &str,
    content: Content,
) -> Result<Vec<StorageContent>, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    client
        .content(node, storage, Some(content.name()), deadline)
        .await
        .map_err(doing(format!("list the images on storage {storage}")))
}

/// The volume in the storage's list.
pub async fn find(
    context: &Context<'_>,
    node: &str,
    volid: &Volid,
) -> Result<Option<StorageContent>, Failure> {
    let content = volid.content().unwrap_or_default();
    let list = files(context, node, &volid.storage, content).await?;
    let wanted = volid.to_string();
    Ok(list.into_iter().find(|volume| volume.volid == wanted))
}

/// What the node gets to know of a file on a server.
///
/// # Errors
/// The node's: it may not reach the server, or the caller may not ask.
pub async fn url_facts(context: &Context<'_>, node: &str, url: &Address) -> Result<Facts, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    let query = [("url", url.as_str().to_string())];
    let path = format!("/nodes/{node}/query-url-metadata");
    let data = client
        .get(&path, &query, deadline)
        .await
        .map_err(doing(format!("have node {node} look at {}", url.shown())))?;
    let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_string);
    Ok(Facts {
        size: data
            .get("size")
            .and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok())),
        disposition: text("filename"),
        media_type: text("mimetype"),
        ..Facts::default()
    })
}

/// A VM with the volumes that its drives name.
pub struct User {
    vm: Vm,
    volids: Vec<String>,
}

impl User {
    /// Whether one of its drives holds `volid`, now or after its next start.
    pub fn uses(&self, volid: &Volid) -> bool {
        let wanted = volid.to_string();
        self.volids.contains(&wanted)
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.vm.status != "stopped"
    }
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Vm {
            vmid, name, status, ..
        } = &self.vm;
        write!(f, "VM {vmid} ({name}, {status})")
    }
}

/// The VMs that can use volumes of `storage`, as far as the caller may see them: those of `node`,
/// or of all nodes when it is shared.
pub async fn users(
    context: &Context<'_>,
    node: &str,
    storage: &Storage,
) -> Result<Vec<User>, Failure> {
    let Context {
        client,
        deadline,
        task,
        ..
    } = *context;
    // PVE's lists are silently empty for who may not look.
    if let Ok(held) = client.privileges("/vms", deadline).await
        && !held.contains("VM.Audit")
    {
        task.warn(format!(
            "{} lacks VM.Audit on /vms: VMs that it may not see may use what is deleted or replaced",
            client.caller()
        ));
    }
    let mut nodes = vec![node.to_string()];
    if storage.shared {
        let all = client
            .nodes(deadline)
            .await
            .map_err(doing("list the nodes"))?;
        nodes = all
            .into_iter()
            .filter(|node| node.status != "offline")
            .map(|node| node.node)
            .collect();
    }
    let mut users = Vec::new();
    for node in nodes {
        let vms = client
            .vms(&node, deadline)
            .await
            .map_err(doing(format!("list the VMs of node {node}")))?;
        let node = &node;
        let read = vms.into_iter().map(|vm| async move {
            let pending = client.vm_pending(node, vm.vmid, deadline).await;
            (vm, pending)
        });
        let mut read = futures_util::stream::iter(read).buffered(READS_AT_ONCE);
        while let Some((vm, pending)) = read.next().await {
            let pending = match pending {
                Ok(pending) => pending,
                // Destroyed since the list was made.
                Err(error) if error.not_found() => continue,
                Err(error) => return Err(doing(format!("read VM {}", vm.vmid))(error)),
            };
            let volids = pending
                .iter()
                .flat_map(|line| [&line.value, &line.pending])
                .filter_map(|value| value.as_ref()?.as_str())
                .filter_map(|drive| drive.split(',').next())
                .map(|first| first.strip_prefix("file=").unwrap_or(first).to_string())
                .collect();
            users.push(User { vm, volids });
        }
    }
    Ok(users)
}

/// How many configurations are asked for at the same time. Proxmox VE has no list of who uses a
/// volume, so each VM costs a request.
const READS_AT_ONCE: usize = 8;

/// The volume once nobody is writing it any more. A file is listed from the first byte of its
/// copy on, so one of another size may only be unfinished.
pub async fn find_settled(
    context: &Context<'_>,
    node: &str,
    volid: &Volid,
    wanted_size: Option<u64>,
) -> Result<Option<StorageContent>, Failure> {
    let Context {
        client, deadline, ..
    } = *context;
    loop {
        let found = find(context, node, volid).await?;
        let size = found.as_ref().and_then(|volume| volume.size);
        if found.is_none() || size == wanted_size {
            return Ok(found);
        }
        if let Some(upid) = writing_task(context, node, volid).await {
            // However it ends, the list says what came of it.
            if let Err(error @ pve_client::Error::Expired { .. }) =
                client.task(&upid, deadline, |_| ()).await
            {
                return Err(doing(format!(
                    "wait for the transfer of {volid} that is under way"
                ))(error));
            }
            continue;
        }
        if wanted_size.is_none() {
            return Ok(found);
        }
        // A writer whose task we may not see shows in the size.
        deadline.sleep(Duration::from_secs(1)).await;
        let later = find(context, node, volid).await?;
        if later.as_ref().and_then(|volume| volume.size) == size || deadline.expired() {
            return Ok(later);
        }
    }
}

/// A running task that writes this volume, among those that we may see.
pub async fn writing_task(context: &Context<'_>, node: &str, volid: &Volid) -> Option<Upid> {
    let Context {
        client, deadline, ..
    } = *context;
    for upid in client.running_tasks(node, None, deadline).await.ok()? {
        match upid.kind.as_str() {
            "download" if upid.id == volid.file_name() => return Some(upid),
            // The task of an upload names its target in the log only.
            "imgcopy" => {
                let log = client
                    .task_log(&upid, 0, 20, deadline)
                    .await
                    .unwrap_or_default();
                let target = |line: &str| {
                    line.starts_with("target file:")
                        && line
                            .trim_end()
                            .ends_with(&format!("/{}", volid.file_name()))
                };
                if log.iter().any(|line| target(&line.t)) {
                    return Some(upid);
                }
            }
            _ => {}
        }
    }
    None
}
