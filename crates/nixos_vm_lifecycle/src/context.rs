//! What every step of a task has: the variables, the clock, and the other modules as functions.

use std::path::PathBuf;
use std::time::Duration;

use ansible_module::{Failure, Module, Outcome, Task};
use cloudinit_drive::CloudinitDrive;
use deadline::Deadline;
use guest_ssh::Jump;
use nixos_anywhere_install::NixosAnywhereInstall;
use nixos_deploy::NixosDeploy;
use proxmox_iso::ProxmoxIso;
use proxmox_nixos_vm::ProxmoxNixosVm;
use proxmox_nixos_vm::Wish;
use proxmox_nixos_vm::ownership::{Expect, Ownership};
use proxmox_snapshot::ProxmoxSnapshot;
use pve_client::Client;
use pve_module::Connection;
use pve_module::record::Identity;
use serde_json::{Value, json};

use crate::error::StepError;
use crate::module_args::{Args, disk_image_variable, iso_variable};
use crate::options::{Options, Settings};
use crate::store::Store;

/// One task at one machine.
pub struct Context<'a> {
    /// The options.
    pub options: &'a Options,
    /// The Ansible task.
    pub task: &'a Task,
    /// The API.
    pub client: Client,
    /// What this controller keeps of the host.
    pub store: Store,
}

/// What this controller keeps of the host.
pub fn store(options: &Options) -> Store {
    let settings = &options.settings;
    let dir = match &settings.state_dir {
        Some(dir) => dir.clone(),
        None => settings.state_root.join(options.host.replace('/', "_")),
    };
    Store::new(absolute(dir))
}

impl<'a> Context<'a> {
    /// The context of a task.
    ///
    /// # Errors
    /// Connection options that make no sense.
    pub fn new(options: &'a Options, task: &'a Task) -> Result<Self, Failure> {
        let settings = &options.settings;
        // What a step does not pass on is part of its invocation all the same.
        let further = settings.further();
        task.mask_options_of::<ProxmoxNixosVm>(&further.vm);
        task.mask_options_of::<CloudinitDrive>(&further.seed);
        task.mask_options_of::<ProxmoxIso>(&further.iso);
        task.mask_options_of::<NixosAnywhereInstall>(&further.install);
        let mut mistakes = further.decided_here();
        mistakes.extend(settings.relative_places());
        if !mistakes.is_empty() {
            return Err(StepError::InvalidOptions(mistakes).into());
        }
        Ok(Self {
            options,
            task,
            client: settings.connection.client().map_err(renamed)?,
            store: store(options),
        })
    }

    /// The variables.
    pub fn settings(&self) -> &'a Settings {
        &self.options.settings
    }

    /// The jump hosts before the machine.
    ///
    /// # Errors
    /// Mistakes in the variables that name them.
    pub fn jump(&self) -> Result<Option<Jump>, StepError> {
        self.settings().jump().map_err(StepError::InvalidOptions)
    }

    /// The file of the machine's host key.
    pub fn known_hosts(&self) -> PathBuf {
        match &self.settings().known_hosts {
            Some(path) => absolute(path.clone()),
            None => self.store.dir().join("known_hosts"),
        }
    }

    /// What the machine is called before there is a VM.
    pub fn name(&self) -> String {
        match (&self.settings().name, self.settings().vmid) {
            (Some(name), _) if !name.is_empty() => format!("VM {name}"),
            (_, Some(vmid)) => format!("VM {vmid}"),
            _ => format!("the VM of {}", self.options.host),
        }
    }

    /// Ask the API.
    ///
    /// # Errors
    /// Its own, in the names of the role's variables; kind `not_found` where there is no such thing.
    pub async fn get(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, String)],
        deadline: &Deadline,
    ) -> Result<Value, Failure> {
        let answer = self.client.get(path, query, deadline).await;
        answer.map_err(|error| renamed(pve_module::doing(what)(error)))
    }

    /// How long a boot may take.
    pub fn boot_deadline(&self) -> Deadline {
        Deadline::after(Duration::from_secs(self.settings().boot_timeout))
    }

    fn progress(&self, args: &mut Args) {
        if let Some(path) = &self.options.progress_path {
            args.entry("progress_path").or_insert(json!(path));
        }
    }

    /// The task, for another module, whose warnings get the names of the role's variables; `check` if that shall only look.
    fn task_of(&self, check: bool) -> Task {
        let task = self.task.naming(prefixed);
        match check {
            true => task.checking(),
            false => task,
        }
    }

    fn options_of<M: Module>(&self, args: Args) -> Result<M::Options, Failure> {
        self.task_of(false).options_of::<M>(args).map_err(renamed)
    }

    /// Call `proxmox_nixos_vm`.
    ///
    /// # Errors
    /// Its own, in the names of the role's variables.
    pub async fn vm(
        &self,
        mut args: Args,
        ownership: Ownership,
        check: bool,
    ) -> Result<Outcome, Failure> {
        placeholders(&mut args);
        self.progress(&mut args);
        let mut options = self.options_of::<ProxmoxNixosVm>(args)?;
        options.connection = self.settings().connection.clone();
        proxmox_nixos_vm::run_owned(options, self.task_of(check), ownership)
            .await
            .map_err(renamed)
    }

    /// Have `proxmox_nixos_vm` choose a node for a VM that is made later.
    ///
    /// # Errors
    /// Its own, in the names of the role's variables.
    pub async fn place(&self, mut args: Args, wish: Wish<'_>) -> Result<String, Failure> {
        placeholders(&mut args);
        let mut options = self.options_of::<ProxmoxNixosVm>(args)?;
        options.connection = self.settings().connection.clone();
        let task = self.task_of(self.task.check_mode);
        proxmox_nixos_vm::place(options, task, wish)
            .await
            .map_err(renamed)
    }

    /// Check options of `proxmox_nixos_vm` by themselves.
    ///
    /// # Errors
    /// Kind `invalid_option`, with every mistake.
    pub fn check_vm(&self, mut args: Args) -> Result<(), Failure> {
        placeholders(&mut args);
        let options = self.options_of::<ProxmoxNixosVm>(args)?;
        proxmox_nixos_vm::check(&options)
            .map_err(|mistakes| StepError::InvalidOptions(mistakes).into())
    }

    /// Call `cloudinit_drive`, for the VM with this number on this node, whose record must be as `expect` says at every write.
    ///
    /// # Errors
    /// Its own, and those of [`Expect::check_notes`].
    pub async fn drive(
        &self,
        mut args: Args,
        vmid: u32,
        node: &str,
        expect: Option<&Expect>,
        check: bool,
    ) -> Result<Outcome, Failure> {
        args.insert("vmid".into(), vmid.into());
        args.insert("node".into(), node.into());
        placeholders(&mut args);
        let mut options = self.options_of::<CloudinitDrive>(args)?;
        options.connection = self.settings().connection.clone();
        let object = format!("VM {vmid}");
        let guard = |config: &Args| match expect {
            Some(expect) => {
                let text = |key: &str| config.get(key).and_then(Value::as_str);
                let identity = Identity::of(text("smbios1"), text("vmgenid"));
                expect.check_notes(&object, vmid, text("description"), &identity)
            }
            None => Ok(()),
        };
        cloudinit_drive::run(options, self.task_of(check), Some(&guard))
            .await
            .map_err(renamed)
    }

    /// Call `proxmox_iso`.
    ///
    /// # Errors
    /// Its own.
    pub async fn iso(&self, mut args: Args, check: bool) -> Result<Outcome, Failure> {
        placeholders(&mut args);
        self.progress(&mut args);
        let settings = self.settings();
        let (by_image, image) = (settings.by_image(), settings.disk_image_source);
        let installer = settings.installer_source;
        let named = move |text: String| {
            let variable = |option: &str| {
                Some(match by_image {
                    true => disk_image_variable(image, option),
                    false => iso_variable(installer, option),
                })
            };
            prefixed(proxmox_iso::rename_options(&text, variable))
        };
        let task = self.task_of(check).naming(named);
        let mut options = task.options_of::<ProxmoxIso>(args).map_err(renamed)?;
        options.connection = self.settings().connection.clone();
        ProxmoxIso::run(options, task).await.map_err(|mut failure| {
            failure.msg = named(failure.msg);
            failure.hint = failure.hint.map(named);
            failure
        })
    }

    /// Call `nixos_anywhere_install`.
    ///
    /// # Errors
    /// Its own.
    pub async fn install(&self, mut args: Args, check: bool) -> Result<Outcome, Failure> {
        self.progress(&mut args);
        let options = self.options_of::<NixosAnywhereInstall>(args)?;
        NixosAnywhereInstall::run(options, self.task_of(check))
            .await
            .map_err(renamed)
    }

    /// Have `nixos_anywhere_install` build what is to be installed, in check mode, too: that changes nothing but the store.
    ///
    /// # Errors
    /// Its own.
    pub async fn build(&self, mut args: Args) -> Result<Outcome, Failure> {
        args.insert("state".into(), "built".into());
        self.progress(&mut args);
        let options = self.options_of::<NixosAnywhereInstall>(args)?;
        let mut task = self.task_of(false);
        task.check_mode = false;
        NixosAnywhereInstall::run(options, task)
            .await
            .map_err(renamed)
    }

    /// Call `nixos_deploy`.
    ///
    /// # Errors
    /// Its own.
    pub async fn deploy(&self, args: Args) -> Result<Outcome, Failure> {
        self.deploy_as(args, self.task_of(false)).await
    }

    /// Have `nixos_deploy` say what it would do, with the system built.
    ///
    /// # Errors
    /// Its own.
    pub async fn plan_deployment(&self, args: Args) -> Result<Outcome, Failure> {
        // It builds in check mode if differences are asked for.
        let mut task = self.task_of(true);
        task.diff_mode = true;
        self.deploy_as(args, task).await
    }

    async fn deploy_as(&self, mut args: Args, task: Task) -> Result<Outcome, Failure> {
        self.progress(&mut args);
        let options = self.options_of::<NixosDeploy>(args)?;
        NixosDeploy::run(options, task).await.map_err(renamed)
    }

    /// Call `proxmox_snapshot`.
    ///
    /// # Errors
    /// Its own.
    pub async fn snapshot(&self, mut args: Args) -> Result<Outcome, Failure> {
        placeholders(&mut args);
        self.progress(&mut args);
        let mut options = self.options_of::<ProxmoxSnapshot>(args)?;
        options.connection = self.settings().connection.clone();
        ProxmoxSnapshot::run(options, self.task_of(false))
            .await
            .map_err(renamed)
    }
}

/// A path with `~` as the home directory; a relative one counts from where the play runs.
pub fn absolute(path: PathBuf) -> PathBuf {
    let home = || std::env::var_os("HOME").map(PathBuf::from);
    if let Ok(rest) = path.strip_prefix("~")
        && let Some(home) = home()
    {
        return home.join(rest);
    }
    std::path::absolute(&path).unwrap_or(path)
}

/// The connection options that another module insists on. The variables' own take their place, which were checked already.
fn placeholders(args: &mut Args) {
    args.insert("api_host".into(), json!([""]));
    args.insert("api_password".into(), "".into());
    args.insert("api_user".into(), "".into());
}

/// A failure of another module, in the names of the role's variables.
fn renamed(mut failure: Failure) -> Failure {
    failure.msg = prefixed(failure.msg);
    failure.hint = failure.hint.map(prefixed);
    failure
}

/// What keeps us from reaching a machine, in the names of the role's variables.
pub fn ssh_failed(error: impl Into<guest_ssh::Error>) -> Failure {
    renamed(nixos_anywhere_install::ssh_failure(error.into()))
}

/// The options of other modules that are variables of the role, too, and that their hints name.
const JUMP_OPTIONS: [&str; 3] = ["jump_host", "jump_host_keys", "jump_host_private_key_file"];

/// The text with the role's prefix before the name of each option that is a variable, too.
fn prefixed(text: String) -> String {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let names = Connection::names();
    let names = names.iter().map(String::as_str).chain(JUMP_OPTIONS);
    names.fold(text, |text, option| {
        let mut result = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(option) {
            let before = rest[..at].chars().next_back();
            let after = rest[at + option.len()..].chars().next();
            result.push_str(&rest[..at]);
            if !word(before) && !word(after) {
                result.push_str(crate::options::PREFIX);
            }
            result.push_str(option);
            rest = &rest[at + option.len()..];
        }
        result.push_str(rest);
        result
    })
}

/// A value of an outcome as a text.
pub fn text(outcome: &Outcome, key: &str) -> String {
    outcome
        .values
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
