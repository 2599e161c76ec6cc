//! What to do about each failure.

use super::{Error, RecordProblem};

const DECIDES_ANEW: &str = "run the play again: it decides by what it finds";
const LOOK_FIRST: &str = "look at the VM, then run the play again: it decides by what it finds";

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        self.hint_with_values()
            .or_else(|| self.fixed_hint().map(str::to_owned))
    }

    /// A hint that names the object.
    fn hint_with_values(&self) -> Option<String> {
        Some(match self {
            Self::RootOnly {
                root, has_mapping, ..
            } => {
                let mapping = match has_mapping {
                    true => {
                        "; a PCI or USB device that is given as mapping=NAME (Datacenter, Resource Mappings) needs the privilege \
                         Mapping.Use instead"
                    }
                    false => "",
                };
                format!(
                    "use api_user: {root} with api_password, and api_token_id: '' if a token is given elsewhere, for this \
                     task{mapping}"
                )
            }
            Self::Invisible { vmid, .. } => {
                format!(
                    "grant VM.Audit on it again (see `pveum acl list` for an entry on /vms/{vmid}, which replaces what is granted \
                     on /vms). If {vmid} is another guest by now, set vmid to a free one"
                )
            }
            Self::TwoOfThisName { vmid, node, .. } => format!(
                "remove the one that is not needed, for example on node {node}: qm destroy {vmid}"
            ),
            Self::StorageContent {
                storage,
                content,
                allowed,
                ..
            } => format!(
                "choose another storage, or allow {content} on it (pvesm set {storage} --content {allowed},{content})"
            ),
            Self::CutOff { node, vmid, .. } => format!(
                "remove what is left of it on node {node}: qm unlock {vmid} && qm destroy {vmid}"
            ),
            _ => return None,
        })
    }

    fn fixed_hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::DiskOfAnother { .. } => {
                "two VMs ruin a disk that they share; hand it over with qm disk move ... --target-vmid, begin with a copy of it \
                 (import_from), or set force: true"
            }
            Self::TagsNotAllowed { .. } => {
                "choose among those, or have an administrator allow them (user-tag-access and registered-tags of the datacenter), or grant \
                 Sys.Modify on /"
            }
            Self::NotFound { hint, .. } => *hint,
            Self::AmbiguousName { .. } => "say which one with vmid, or rename the others",
            Self::NameDiffers { .. } => {
                "correct vmid or name; to rename a VM give both with force: true and state: present"
            }
            Self::NameTaken { .. } => "leave vmid out to mean that VM, or choose another name",
            Self::Template { .. } => {
                "state: template manages it, state: absent with force: true removes it; give a clone a name of its own"
            }
            Self::Appeared { .. } | Self::Gone { .. } | Self::Recorded { .. } => DECIDES_ANEW,
            Self::MadeByOthersToo { .. } => "let one controller at a time make it",
            Self::Tags { .. } => {
                "another task, or a person, tagged it so; look at it first (state: current)"
            }
            Self::MissingWithTag { .. } => "create it first, without only_if_tagged",
            Self::Record {
                problem: RecordProblem::TakenOver,
                ..
            } => "wait until that run has ended; if it failed, run the play again",
            Self::Record { .. } => LOOK_FIRST,
            Self::NodesOffline(_)
            | Self::NoSuchNode {
                option: "nodes", ..
            } => "correct nodes, or leave it out to choose from all nodes",
            Self::NodeOffline { .. } | Self::NoSuchNode { .. } => {
                "correct node, or leave it out to take the online node with the most free memory"
            }
            Self::NoVmid { .. } => "widen vmid_range, or remove VMs that are not needed",
            Self::NoStorage { .. } => {
                "correct its name, or give the token the privilege Datastore.AllocateSpace on it: what a token may not use is not \
                 listed"
            }
            Self::StorageDown { .. } => "enable or repair it (pvesm status shows it on the node)",
            Self::NoIso { .. } => {
                "upload it first with the module proxmox_iso, or correct its name"
            }
            Self::NoBridge { .. } => {
                "correct its name in net, or make the bridge first; PVE lists only bridges and vnets on which the API user has SDN.Use"
            }
            Self::AmbiguousTemplate { .. } => "say which one with clone.vmid",
            Self::NotATemplate { .. } => "make it one with state: template",
            Self::NoTemplate { .. } => "correct clone, or give the token VM.Audit on the template",
            Self::CannotMigrate { .. } => "leave migrate out to manage the VM where it is",
            Self::DisksMovedBack { .. } => "does somebody else move them back?",
            Self::NoShutdown { .. } => {
                "look at its console: does the guest react to ACPI, or run the guest agent? force: true stops it hard, \
                 a longer timeout gives it more time"
            }
            Self::RunningTemplate { .. } => "stop it first with state: stopped",
            Self::Protected { .. } => "set protection: false first, with state: present",
            Self::Installing { .. } => {
                "finish the installation first: run provision.yml for that host; until then leave ha out, or use ha.state: ignored"
            }
            Self::RunningNotRemoved { .. } => {
                "stop it first with state: stopped, or set force: true"
            }
            Self::NoNic { .. } => "give it one with the option net",
            Self::NoAgent { .. } => {
                "set agent: enabled=1, which takes effect with the VM's next start"
            }
            Self::NotRunning { .. } => "start it, with state: started",
            _ => return None,
        })
    }
}
