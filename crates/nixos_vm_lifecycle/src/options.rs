//! The options of the module. The suboptions of `settings` are the variables of the role `nixos_vm`, without their prefix; their doc
//! comments are the documentation of both.

mod choices;
mod defaults;
mod required;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ansible_module::Secret;
use nixos_vm_report::FailOn;
use proxmox_nixos_vm::options::AddressFamily;
use pve_module::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use choices::{
    Cloudinit, DiskImageSource, DiskKey, ExtraFile, InstallerSource, KeyType, Method, Power,
    ReinstallHostKey, Restart, SshHostKey, SystemFacts,
};
pub use required::{FIRST, Needs, PREFIX, missing, not_filled_in};

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Read the machine, check the variables and return the steps that are due. Changes nothing.
    Decide,
    /// Return what a run would change, and what that takes of the node and the storages. Changes nothing.
    Plan,
    /// Have the installer ISO at hand: build it, resolve the release, or find the file.
    Image,
    /// Put the installer ISO on the storage.
    Upload,
    /// Create the VM or converge it, with its seed.
    Provision,
    /// Start the VM and wait until its installer answers with the known host key.
    Boot,
    /// Install the flake with nixos-anywhere.
    Install,
    /// Detach installer and seed, start the installed system and verify it.
    Finalize,
    /// Deploy the flake to a finished machine.
    Deploy,
    /// Remove the VM with its disks, and what the controller keeps of it.
    Destroy,
    /// Make the SSH host keys of the machine before it exists, in O(settings.host_keys_dir). Proxmox VE is not asked.
    Keys,
}

impl Step {
    /// The six steps, in their order.
    pub const SIX: [Self; 6] = [
        Self::Image,
        Self::Upload,
        Self::Provision,
        Self::Boot,
        Self::Install,
        Self::Finalize,
    ];

    /// The step's name, which is its tag in the role.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Plan => "plan",
            Self::Image => "image",
            Self::Upload => "upload",
            Self::Provision => "provision",
            Self::Boot => "boot",
            Self::Install => "install",
            Self::Finalize => "finalize",
            Self::Deploy => "deploy",
            Self::Destroy => "destroy",
            Self::Keys => "keys",
        }
    }
}

/// The options of the module.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Options {
    /// What to do.
    pub step: Step,

    /// The inventory host whose machine it is: C(inventory_hostname).
    pub host: String,

    /// The variables of the role, without C(nixos_vm_).
    pub settings: Settings,

    /// With C(step=decide), start to build what is to be installed, if it is: a process beside the play, for which C(step=install) waits.
    #[serde(default)]
    pub build: bool,

    /// The hosts of the group O(settings.spread), with their C(nixos_vm_name), or an empty text where it is not set.
    #[serde(default)]
    pub companions: BTreeMap<String, String>,

    /// What C(step=decide) returned as RV(run) in this play. The other steps need it, so that a run whose machine was taken over stops.
    pub run: Option<Run>,

    /// A file to which progress is written as JSON lines.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub progress_path: Option<PathBuf>,
}

/// One run of the play at one machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Run {
    /// The installation.
    pub installation: String,
    /// This run.
    pub id: String,
    /// The run that was found at work, which this one takes the machine over from.
    pub found: Option<String>,
}

/// The variables of the role.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Settings {
    /// Where the API is and who asks.
    #[serde(flatten)]
    pub connection: Connection,

    // --- The machine ---
    /// The VM's name, a DNS name. The role's default is the short name of the inventory host.
    pub name: Option<String>,
    /// The VM's ID. Without it the VM is found by its name, and a new one gets the next free ID.
    pub vmid: Option<u32>,
    /// The VMIDs from which a new VM gets its ID, for example V(200-299).
    pub vmid_range: Option<String>,
    /// Node on which a new VM is created. Without it the role chooses an online node that has the storages and bridges: first by
    /// O(settings.spread), then by free memory, which needs the privilege Sys.Audit on the nodes. An existing VM is managed on its
    /// present node.
    pub node: Option<String>,
    /// The nodes from which one is chosen for a new VM without O(settings.node).
    pub nodes: Option<Vec<String>>,
    /// An inventory group whose machines shall be on different nodes. A new VM without O(settings.node) is created on the node that
    /// has the fewest of them.
    pub spread: Option<String>,
    /// The pool of the VM.
    pub pool: Option<String>,
    /// What an installed machine shall be. Default is V(started) for a machine that the role installed; one that it adopted stays as it
    /// is.
    pub state: Option<Power>,
    /// When a finished machine is restarted.
    #[serde(default)]
    pub restart: Restart,
    /// Manage a VM that this role did not make, or that another inventory host made: converge the options that are set, add tags and
    /// notes. Nothing is ever installed onto it.
    #[serde(default)]
    pub adopt: bool,
    /// Memory in MiB. A new VM gets V(2048) if it is not set.
    pub memory: Option<u64>,
    /// Memory in MiB while the machine is being installed; given back afterwards. Default is O(settings.memory).
    pub install_memory: Option<u64>,
    /// Cores per socket. A new VM gets V(2).
    pub cores: Option<u32>,
    /// CPU sockets.
    pub sockets: Option<u32>,
    /// CPU type with its flags. A new VM gets V(x86-64-v2-AES).
    pub cpu: Option<String>,
    /// Firmware, V(seabios) or V(ovmf). A new VM gets V(seabios).
    pub bios: Option<String>,
    /// Machine type, such as V(q35).
    pub machine: Option<String>,
    /// The disk of the EFI variables. A new VM with V(ovmf) gets one on O(settings.disks_storage).
    pub efidisk0: Option<Value>,
    /// The disk of the TPM's state.
    pub tpmstate0: Option<Value>,
    /// The guest agent. A new VM gets V(enabled=1).
    pub agent: Option<String>,
    /// Serial ports. A new VM gets V({serial0: socket}).
    pub serial: Option<BTreeMap<String, String>>,
    /// SCSI controller. A new VM gets V(virtio-scsi-single).
    pub scsihw: Option<String>,
    /// Storage of the disk of a new VM.
    #[serde(default = "defaults::disks_storage")]
    pub disks_storage: String,
    /// Size in GiB of the disk of a new VM. A larger value grows the disk.
    pub disk_size: Option<u64>,
    /// SCSI disks, as M(proxmox_nixos_vm) takes them. A new VM gets V(scsi0) of O(settings.disk_size) if no disk is described.
    pub scsi: Option<BTreeMap<String, Value>>,
    /// VirtIO block disks.
    pub virtio: Option<BTreeMap<String, Value>>,
    /// SATA disks.
    pub sata: Option<BTreeMap<String, Value>>,
    /// The disk that NixOS is installed onto and boots from. It must be a new one. Default is the one with the lowest number of
    /// O(settings.scsi), then O(settings.virtio), then O(settings.sata).
    pub boot_disk: Option<String>,
    /// Drives and disks to remove from a finished machine. They are kept as unused volumes.
    #[serde(default)]
    pub remove_disks: Vec<String>,
    /// NICs, as M(proxmox_nixos_vm) takes them. A new VM gets V({net0: "virtio,bridge=vmbr0"}).
    pub net: Option<BTreeMap<String, Value>>,
    /// Whether the VM is started with its node. A new VM gets V(true).
    pub onboot: Option<bool>,
    /// Tags that the VM shall have, one an item. Other tags are left alone.
    pub tags: Option<Vec<String>>,
    /// Notes of the VM. If they are not set, the notes that there are stay.
    pub description: Option<String>,
    /// Any other option of a Proxmox VE VM.
    pub config: Option<BTreeMap<String, Value>>,
    /// More options of M(proxmox_nixos_vm).
    pub vm_options: Option<Map<String, Value>>,
    /// The same for one host, merged over O(settings.vm_options).
    pub host_vm_options: Option<Map<String, Value>>,

    // --- Its network, while the installer runs ---
    /// Address and prefix length of the first NIC, such as V(192.0.2.11/24) or V(2001:db8::11/64); or V(dhcp), V(dhcp6), or V(slaac)
    /// for router advertisements. For both families a list of two. Proxmox VE's text, such as V(ip=192.0.2.11/24,ip6=auto), is taken,
    /// too. Required to install a machine.
    #[serde(default, deserialize_with = "defaults::one_or_several")]
    pub ip: Option<Vec<String>>,
    /// Default gateway of the first NIC, a list of two for both families. It may be outside of the subnet. It is ignored where DHCP or
    /// router advertisements give the address.
    #[serde(default, deserialize_with = "defaults::one_or_several")]
    pub gateway: Option<Vec<String>>,
    /// Name servers of the installer.
    pub nameservers: Option<Vec<String>>,
    /// Search domains of the installer.
    pub searchdomains: Option<Vec<String>>,
    /// Addresses of the other NICs, V(ipconfig1) and so on, as M(cloudinit_drive) takes them. Only one NIC may have a gateway of a family.
    pub ipconfig: Option<BTreeMap<String, Value>>,
    /// More user-data for the installer, a dict that is merged with what the role needs.
    #[schemars(extend("x-ansible" = {"no_log": true}))]
    pub user_data: Option<Map<String, Value>>,
    /// Where the controller reaches the machine by SSH: a host name or an address. Default is C(ansible_host), or the address of
    /// O(settings.ip) that is of O(settings.address_family).
    pub address: Option<String>,
    /// Which of the machine's addresses the controller uses. With V(any) it is a fixed address if there is one, IPv4 before IPv6.
    #[serde(default)]
    pub address_family: AddressFamily,
    /// Port of SSH at that address.
    #[serde(default = "defaults::ssh_port")]
    pub ssh_port: u16,
    /// The jump host that the controller reaches the machine through, V(USER@HOST:PORT) as C(ProxyJump) of OpenSSH takes it; user and port may be left out. An IPv6 address is
    /// in brackets, several jump hosts with commas between. O(settings.address) is what the last one connects to.
    pub jump_host: Option<String>,
    /// The public host keys of the jump hosts, as lines of C(known_hosts). Without them, the C(known_hosts) of the user that runs Ansible has to
    /// know the jump hosts.
    #[serde(default)]
    pub jump_host_keys: Vec<String>,
    /// Private key for the login to the jump hosts. Without it, C(ssh) takes what it takes in a terminal: an agent, C(~/.ssh/config), the
    /// default keys.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub jump_host_private_key_file: Option<PathBuf>,
    /// More options of M(cloudinit_drive) for the installer's seed.
    pub seed_options: Option<Map<String, Value>>,
    /// The same for one host, merged over O(settings.seed_options).
    pub host_seed_options: Option<Map<String, Value>>,
    /// What becomes of the cloud-init drive after the installation.
    pub cloudinit: Option<Cloudinit>,

    // --- How it gets its system ---
    /// How a new machine gets its system.
    #[serde(default)]
    pub method: Method,
    /// Where the disk image comes from (O(settings.method=image)).
    #[serde(default)]
    pub disk_image_source: DiskImageSource,
    /// Path of the disk image on the controller, or its URL: qcow2, raw or VMDK, perhaps compressed. Its system must run cloud-init, from
    /// which it gets its host keys, addresses and login keys, and grow its root file system.
    pub disk_image: Option<String>,
    /// For V(build), the flake and the name of the NixOS configuration that the image has. Default is O(settings.flake). Machines that name
    /// the same configuration share one image.
    pub disk_image_flake: Option<String>,
    /// For V(build), which of C(config.system.build.images) is built. Default is V(qemu-efi) with O(settings.bios=ovmf), else V(qemu).
    pub disk_image_variant: Option<String>,
    /// Checksum of the disk image, C(sha256:HEX).
    pub disk_image_checksum: Option<String>,
    /// Name of the disk image on the storage. Default is the source's own, with a part of the store path's hash for V(build).
    pub disk_image_name: Option<String>,
    /// Make a template of the disk image, once on each node, and linked clones of it, which are made in seconds and share its disk. The
    /// storage of the boot disk must be able to. The template belongs to the controller that made it; it is never removed by the role.
    #[serde(default)]
    pub disk_image_template: bool,
    /// The VMIDs from which a template gets its ID.
    #[serde(default = "defaults::template_vmid_range")]
    pub disk_image_template_vmid_range: String,
    /// Storage for the disk image, with the content type C(import). Default is O(settings.iso_storage).
    pub disk_image_storage: Option<String>,

    // --- The installer ISO ---
    /// Where the installer ISO comes from.
    #[serde(default)]
    pub installer_source: InstallerSource,
    /// Path of the ISO on the controller, or its URL.
    pub installer_iso: Option<String>,
    /// Flake reference of the ISO, for V(build).
    #[serde(default = "defaults::installer_flake")]
    pub installer_flake: String,
    /// Machines that may build it, as Nix's setting C(builders) takes them.
    #[serde(default)]
    pub installer_builders: String,
    /// Repository of the release, C(OWNER/NAME).
    #[serde(default = "defaults::installer_repo")]
    pub installer_repo: String,
    /// Tag of the release.
    #[serde(default = "defaults::installer_tag")]
    pub installer_tag: String,
    /// Pattern that the name of one file of the release fits.
    #[serde(default = "defaults::installer_asset")]
    pub installer_asset: String,
    /// Address of GitHub's API, of GitHub Enterprise or of a mirror.
    #[serde(default = "defaults::installer_api_url")]
    pub installer_api_url: String,
    /// Token for a private repository or a higher rate limit.
    pub installer_token: Option<Secret>,
    /// Checksum of the ISO, C(sha256:HEX).
    pub installer_checksum: Option<String>,
    /// Name of the ISO on the storage. Default is the source's own.
    pub installer_name: Option<String>,
    /// Storage for the installer ISO and the seed ISO.
    #[serde(default = "defaults::iso_storage")]
    pub iso_storage: String,
    /// Drive that the seed ISO is attached to.
    #[serde(default = "defaults::seed_drive")]
    pub seed_drive: String,
    /// Drive that the installer ISO is attached to.
    #[serde(default = "defaults::installer_drive")]
    pub installer_drive: String,
    /// More options of M(proxmox_iso).
    pub iso_options: Option<Map<String, Value>>,
    /// The same for one host, merged over O(settings.iso_options).
    pub host_iso_options: Option<Map<String, Value>>,

    // --- What is installed ---
    /// A flake reference and the name of its NixOS configuration. Required to install a machine.
    pub flake: Option<String>,
    /// How the NixOS configuration gets the facts of the inventory (address, keys, disk): as the options C(nixos-proxmox.guest) of
    /// C(nixosModules.guest). A finished machine gets new ones by a deployment (O(settings.deploy)).
    #[serde(default)]
    pub system_facts: SystemFacts,
    /// The JSON file for V(file), within the flake. It is written before a machine is installed or deployed to.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub system_facts_file: Option<PathBuf>,
    /// Where the system is built: V(auto), V(local) or V(remote).
    #[serde(default = "defaults::build_on")]
    pub build_on: String,
    /// Tree that is copied to the root of the new system.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub extra_files_dir: Option<PathBuf>,
    /// Single files for the new system, over those of the tree.
    #[serde(default)]
    pub extra_files: Vec<ExtraFile>,
    /// Directory that outlives the new system's root file system, such as V(/persist). The host key is put below it.
    #[serde(default)]
    pub persist: String,
    /// Files that the disk layout needs.
    #[serde(default)]
    pub disk_encryption_keys: Vec<DiskKey>,
    /// More options of M(nixos_anywhere_install).
    pub install_options: Option<Map<String, Value>>,
    /// The same for one host, merged over O(settings.install_options).
    pub host_install_options: Option<Map<String, Value>>,
    /// Directory searched first for C(nix) and C(nixos-anywhere).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub tools_path: Option<PathBuf>,
    /// Seconds that the installation may take.
    #[serde(default = "defaults::install_timeout")]
    pub install_timeout: u64,
    /// Seconds that each boot may take.
    #[serde(default = "defaults::boot_timeout")]
    pub boot_timeout: u64,
    /// Watch the VM's serial console while it boots: its last lines are part of an error, and a kernel panic ends the wait. Only one can
    /// read it, so it is silent in the web interface meanwhile. It is left to people as soon as the system asks for a passphrase.
    #[serde(default = "defaults::console")]
    pub console: bool,
    /// How many machines are installed at the same time; V(0) for as many as Ansible has forks.
    #[serde(default)]
    pub parallel_installs: u64,

    // --- Later changes ---
    /// Deploy O(settings.flake) to a finished machine, if it runs another system. A machine that is installed in this run has it already.
    #[serde(default)]
    pub deploy: bool,
    /// What a deployment does with the system.
    #[serde(default)]
    pub deploy_action: nixos_deploy::Action,
    /// Whether a deployment restarts the machine.
    #[serde(default)]
    pub deploy_reboot: nixos_deploy::Reboot,
    /// How many seconds a machine waits for the controller to log in again, before it puts the old system back.
    #[serde(default = "defaults::deploy_timeout")]
    pub deploy_timeout: u64,
    /// Take a snapshot of the VM before a deployment that changes something, and delete it once that has worked.
    #[serde(default)]
    pub deploy_snapshot: bool,
    /// Save the memory in the snapshot, too.
    #[serde(default)]
    pub deploy_snapshot_memory: bool,
    /// How many snapshots of deployments that worked are kept.
    #[serde(default)]
    pub deploy_snapshots_kept: u32,
    /// Roll the VM back to the snapshot if a deployment fails after it changed the machine, and the machine does not answer any more.
    /// B(What was written to its disks since the deployment began is lost.)
    #[serde(default)]
    pub deploy_rollback: bool,

    // --- The plan for all machines ---
    /// Build the systems for a plan, so that the report shows how large they are.
    #[serde(default)]
    pub plan_build: bool,
    /// A file that the plan is written to: JSON if its name ends in C(.json), a page if it ends in C(.html), text otherwise. That of the
    /// play's first host counts.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub plan_path: Option<PathBuf>,
    /// Which hosts a plan fails for. That of the play's first host counts.
    #[serde(default)]
    pub plan_fail_on: FailOn,

    // --- Identity ---
    /// An SSH host key of the installed system. Without it, and without O(settings.host_keys_dir), keys of O(settings.ssh_host_key_types)
    /// are made for the installation.
    pub ssh_host_key: Option<SshHostKey>,
    /// A directory with a directory for each host, in which C(playbooks/keys.yml) makes the SSH host keys that its machine gets:
    /// C(HOST/ssh_host_TYPE_key).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub host_keys_dir: Option<PathBuf>,
    /// Have C(playbooks/keys.yml) encrypt the private keys that it makes by C(ansible-vault) with the password in this file.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub host_keys_vault_password_file: Option<PathBuf>,
    /// Age recipients of people, for the rules that C(playbooks/keys.yml) writes for sops, beside the machine's own.
    #[serde(default)]
    pub sops_recipients: Vec<String>,
    /// The kinds of host keys to make.
    #[serde(default = "default_key_types")]
    pub ssh_host_key_types: Vec<KeyType>,
    /// Public keys that may log in as root: to the installer, beside the role's own short-lived key, and with O(settings.system_facts) to the
    /// installed system, too.
    #[serde(default)]
    pub authorized_keys: Vec<String>,
    /// Who logs in to the installed system to verify it.
    #[serde(default = "defaults::ssh_user")]
    pub ssh_user: String,
    /// Private key for that login. Without any, an SSH agent's keys are tried.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub ssh_private_key_file: Option<PathBuf>,
    /// The same as a text, for example from a vault.
    pub ssh_private_key: Option<Secret>,

    // --- On the controller ---
    /// Directory of the hosts' state directories.
    #[serde(default = "defaults::state_root")]
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub state_root: PathBuf,
    /// Directory of this host: keys while they are needed, the known host key, logs. Default is a directory below
    /// O(settings.state_root) with the host's name.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub state_dir: Option<PathBuf>,
    /// File that the machine's host key is written to. Default is C(known_hosts) in O(settings.state_dir).
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub known_hosts: Option<PathBuf>,

    // --- Removal, and what the role returns ---
    /// The inventory host's name or the VMID again, or a list of them. Nothing is destroyed without it.
    pub confirm_destroy: Option<Value>,
    /// The inventory host's name again, or C(HOST:ID): the finished machine is installed anew. Its other disks are detached meanwhile. Each
    /// confirmation counts once: where the machine was installed anew before, the role says which word is needed.
    pub confirm_reinstall: Option<Value>,
    /// What becomes of the SSH host key of a machine that is installed anew.
    #[serde(default)]
    pub reinstall_host_key: ReinstallHostKey,
    /// Set by the role for later plays: C(vmid), C(node), C(address), C(guest_address), C(host_keys) and C(closure) of the machine.
    pub facts: Option<Value>,
}

/// A text that says something, without blanks around it.
pub fn given(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn default_key_types() -> Vec<KeyType> {
    vec![KeyType::Ed25519]
}

#[cfg(test)]
impl Settings {
    /// These variables, and what is required besides.
    pub(crate) fn with(variables: Value) -> Self {
        let mut all = serde_json::json!({"api_host": ["pve"]});
        let variables = variables.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(variables);
        serde_json::from_value(all).unwrap()
    }
}
