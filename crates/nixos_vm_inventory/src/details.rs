//! What is asked about single VMs: configuration, QEMU's state, and the guest agent.

use std::time::Duration;

use deadline::Deadline;
use futures_util::StreamExt;
use futures_util::stream;
use proxmox_nixos_vm::agent_is_enabled;
use pve_client::Error;
use pve_module::Context;
use serde_json::{Map, Value};

use crate::list::Vm;
use crate::options::{AddressSource, Options};

/// The most VMIDs that one warning names.
const MOST_NAMED: usize = 10;

/// A VM's configuration, as `GET config` shows it (pending changes as if made).
#[derive(Debug, Clone, Default)]
pub struct Config(pub Map<String, Value>);

impl Config {
    /// The text of an option.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// Whether the agent is turned on. PVE may send `1` as a number.
    fn has_agent(&self) -> bool {
        match self.0.get("agent") {
            Some(Value::String(text)) => agent_is_enabled(text),
            Some(value) => value.as_u64() == Some(1),
            None => false,
        }
    }
}

/// What is known of one VM.
#[derive(Debug, Default)]
pub struct Details {
    /// Its configuration, if it was asked for.
    pub config: Option<Config>,
    /// QEMU's word for its state, such as `paused`.
    pub qmpstatus: Option<String>,
    /// What its agent reports of its NICs.
    pub interfaces: Option<Value>,
    /// What could not be read.
    pub failed: Vec<Failed>,
}

/// A question that was not answered.
#[derive(Debug)]
pub struct Failed {
    question: Question,
    /// No answer came in time.
    expired: bool,
    /// Why, for people.
    pub text: String,
}

/// What is asked of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Config,
    Status,
    Agent,
}

impl Question {
    const ALL: [Self; 3] = [Self::Config, Self::Status, Self::Agent];

    fn named(self) -> &'static str {
        match self {
            Self::Config => "the configurations",
            Self::Status => "the states",
            Self::Agent => "the addresses that guest agents report",
        }
    }
}

/// Ask about the VMs, several at once, until `facts_timeout` has passed. What is not known then is left out.
pub async fn read(context: &Context<'_>, options: &Options, vms: &[&Vm]) -> Vec<Details> {
    let all = context
        .deadline
        .shorter(Duration::from_secs(options.facts_timeout));
    let all = &all;
    let numbered = vms.iter().enumerate();
    let of_vms = stream::iter(numbered)
        .map(|(n, vm)| async move { (n, of_vm(context, options, vm, all).await) });
    let at_once = usize::try_from(options.facts_concurrency).unwrap_or(1);
    // As they come: a VM that does not answer does not hold up those after it.
    let mut read: Vec<(usize, Details)> = of_vms.buffer_unordered(at_once).collect().await;
    read.sort_by_key(|(n, _)| *n);
    read.into_iter().map(|(_, details)| details).collect()
}

async fn of_vm(context: &Context<'_>, options: &Options, vm: &Vm, all: &Deadline) -> Details {
    let mut details = Details::default();
    if vm.status == "unknown" {
        // Its node does not answer: each request would take its whole time, at the cost of the VMs on other nodes.
        if options.needs_config() || options.qemu_extended_statuses {
            details.failed.push(Failed {
                question: Question::Config,
                expired: false,
                text: format!("the node {} does not answer", vm.node),
            });
        }
        return details;
    }
    let runs = vm.status == "running" && !vm.template;
    if options.needs_config() {
        let read = context
            .client
            .vm_config(&vm.node, vm.vmid, false, all)
            .await;
        details.config = details.note(Question::Config, read).map(Config);
    }
    if options.qemu_extended_statuses && runs {
        let read = context.client.vm_status(&vm.node, vm.vmid, all).await;
        let status = details.note(Question::Status, read);
        details.qmpstatus = status.and_then(|status| status.qmpstatus);
    }
    let may_have_agent = details.config.as_ref().is_none_or(Config::has_agent);
    if runs && may_have_agent && options.address_sources.contains(&AddressSource::Agent) {
        let deadline = all.shorter(Duration::from_secs(options.agent_timeout));
        let path = format!(
            "/nodes/{}/qemu/{}/agent/network-get-interfaces",
            vm.node, vm.vmid
        );
        match context.client.get(&path, &[], &deadline).await {
            Err(error) if is_without_agent(&error) => {}
            answered => {
                let answer = details.note(Question::Agent, answered);
                // An agent that has no such command answers with an object, `{"error": ...}`.
                let result = answer.and_then(|answer| answer.get("result").cloned());
                details.interfaces = result.filter(Value::is_array);
            }
        }
    }
    details
}

/// Whether the VM simply has no agent, which is usual.
fn is_without_agent(error: &Error) -> bool {
    let usual = [
        "No QEMU guest agent configured",
        "guest agent is not running",
        "is not running",
    ];
    error
        .pve_message()
        .is_some_and(|text| usual.iter().any(|part| text.contains(part)))
}

impl Details {
    fn note<T>(&mut self, question: Question, read: Result<T, Error>) -> Option<T> {
        let error = match read {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let expired = matches!(error, Error::Expired { .. });
        let failure = pve_module::failure(error);
        let text = match failure.hint {
            Some(hint) if !expired => format!("{}; {hint}", failure.msg),
            _ => failure.msg,
        };
        self.failed.push(Failed {
            question,
            expired,
            text,
        });
        None
    }
}

/// What could not be read, in few sentences however many VMs there are.
pub fn warnings(options: &Options, vms: &[&Vm], details: &[Details]) -> Vec<String> {
    let mut warnings = Vec::new();
    for question in Question::ALL {
        for expired in [true, false] {
            let failed = vms.iter().zip(details).filter_map(|(vm, details)| {
                let is_meant =
                    |failed: &&Failed| failed.question == question && failed.expired == expired;
                Some((vm.vmid, &*details.failed.iter().find(is_meant)?.text))
            });
            let failed: Vec<(u32, &str)> = failed.collect();
            let Some((_, first)) = failed.first() else {
                continue;
            };
            let vmids: Vec<u32> = failed.iter().map(|(vmid, _)| *vmid).collect();
            let why = match (expired, question) {
                (true, Question::Agent) => format!(
                    "no answer within agent_timeout ({} s) or facts_timeout ({} s)",
                    options.agent_timeout, options.facts_timeout
                ),
                (true, _) => format!(
                    "no answer within facts_timeout ({} s)",
                    options.facts_timeout
                ),
                (false, _) => (*first).to_owned(),
            };
            warnings.push(format!(
                "{} are unknown of {}: {why}",
                question.named(),
                named(&vmids)
            ));
        }
    }
    warnings
}

/// `VM 101`, or `12 VMs (101, 102, ... and 2 more)`.
fn named(vmids: &[u32]) -> String {
    if let [one] = vmids {
        return format!("VM {one}");
    }
    let shown: Vec<String> = vmids.iter().take(MOST_NAMED).map(u32::to_string).collect();
    let rest = vmids.len() - shown.len();
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!("{} VMs ({}{more})", vmids.len(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_thousand_failures_are_one_warning() {
        let vms: Vec<Vm> = (101..1101)
            .map(|vmid| Vm {
                vmid,
                ..Vm::default()
            })
            .collect();
        let vms: Vec<&Vm> = vms.iter().collect();
        let failed = |question, expired, text: &str| Failed {
            question,
            expired,
            text: text.into(),
        };
        let mut details: Vec<Details> = vms
            .iter()
            .map(|_| Details {
                failed: vec![failed(Question::Agent, true, "x")],
                ..Details::default()
            })
            .collect();
        details[3].failed.push(failed(
            Question::Config,
            false,
            "403 Permission check failed",
        ));
        assert_eq!(
            warnings(&crate::options::given(json!({})), &vms, &details),
            [
                "the configurations are unknown of VM 104: 403 Permission check failed",
                "the addresses that guest agents report are unknown of 1000 VMs (101, 102, 103, 104, 105, 106, 107, 108, 109, 110 and 990 \
                 more): no answer within agent_timeout (3 s) or facts_timeout (30 s)"
            ]
        );
    }

    #[test]
    fn an_agent_is_asked_only_where_it_is_turned_on() {
        for (agent, on) in [
            (json!({}), false),
            (json!({"agent": "1"}), true),
            (json!({"agent": 1}), true),
            (json!({"agent": "enabled=1,fstrim_cloned_disks=1"}), true),
            (json!({"agent": "0"}), false),
            (json!({"agent": "enabled=0"}), false),
        ] {
            assert_eq!(
                Config(agent.as_object().unwrap().clone()).has_agent(),
                on,
                "{agent}"
            );
        }
    }
}
