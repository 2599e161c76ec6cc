//! From a VM's configuration to QEMU's command line: the devices PVE would give the guest, at the
//! PCI slots PVE uses (a guest's device names come from them).

mod boot_order;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde_json::json;

use super::config::{Config, Properties, agent_enabled, index, indexed, truthy};
use super::net::Nic;
use super::{Forward, VmSpec, firmware};
use boot_order::BootOrder;

/// The program.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Memory for translated code, MiB. QEMU's own default would grow to several times the guest.
const TRANSLATIONS: u32 = 128;

/// Sockets and logs, named relative to the VM's run directory, in which QEMU is started: paths of
/// sockets are limited to 107 bytes.
pub(super) const QMP_SOCKET: &str = "qmp.sock";
pub(super) const AGENT_SOCKET: &str = "qga.sock";

/// QEMU's name of the device that the agent's port is connected to.
pub(super) const AGENT_CHARDEV: &str = "qga0";

/// What of the machine it runs on a command line depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub kvm: bool,
    /// Processors; a guest gets no more than that.
    pub cpus: u32,
}

/// A disk or CD-ROM drive of a configuration.
struct Drive<'a> {
    key: &'a str,
    bus: Bus,
    index: u32,
    options: Properties<'a>,
    medium: Option<&'a Path>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bus {
    Ide,
    Sata,
    Scsi,
    Virtio,
}

const BUSES: [(Bus, &str); 4] = [
    (Bus::Ide, "ide"),
    (Bus::Sata, "sata"),
    (Bus::Scsi, "scsi"),
    (Bus::Virtio, "virtio"),
];

impl Drive<'_> {
    fn is_cdrom(&self) -> bool {
        self.options.get("media") == Some("cdrom")
    }
}

/// Which bus a drive key is on, and its number there.
fn drive_key(key: &str) -> Option<(Bus, u32)> {
    BUSES
        .iter()
        .find_map(|(bus, prefix)| Some((*bus, index(key, prefix)?)))
}

/// The arguments for one VM.
///
/// # Errors
/// When a drive's image or the firmware cannot be read, or a disk has no file.
pub(super) fn arguments(
    vm: &VmSpec,
    nics: &[Nic],
    forwards: &[Forward],
    host: Host,
) -> Result<Vec<String>, String> {
    let config = &vm.config;
    let get = |key: &str| config.get(key).map(String::as_str);
    let q35 = get("machine").is_some_and(|machine| machine.contains("q35"));
    let kvm = host.kvm && get("kvm") != Some("0");
    let mut line = CommandLine::default();

    line.add("-name", &format!("guest={}", vm.name));
    line.add("-nodefaults", "");
    line.add("-no-user-config", "");
    line.add("-display", "none");
    let acpi = if get("acpi") == Some("0") {
        ",acpi=off"
    } else {
        ""
    };
    line.add(
        "-machine",
        &format!("{}{acpi}", if q35 { "q35" } else { "pc" }),
    );
    line.add("-smp", &processors(config, host.cpus).to_string());
    if kvm {
        line.add("-accel", "kvm");
        line.add("-cpu", "host");
    } else {
        // With a thread for each processor, a guest with two of them now and then locks up while it boots.
        line.add(
            "-accel",
            &format!("tcg,thread=single,tb-size={TRANSLATIONS}"),
        );
        line.add("-cpu", "qemu64");
    }
    line.add("-m", &format!("{}M", memory(config)?));
    // PVE has the firmware try again every second; that would keep a processor busy without KVM.
    line.add("-boot", "strict=on,reboot-timeout=10000");
    line.add("-qmp", &format!("unix:{QMP_SOCKET},server=on,wait=off"));
    add_identity_and_firmware(&mut line, vm)?;

    let pci = if q35 { "pcie.0" } else { "pci.0" };
    display(&mut line, get("vga"));
    serial_ports(&mut line, config);
    if agent_enabled(config) {
        line.device(&format!("virtio-serial,id=qga0,bus={pci},addr=0x8"));
        line.add(
            "-chardev",
            &format!("socket,path={AGENT_SOCKET},server=on,wait=off,id={AGENT_CHARDEV}"),
        );
        line.device("virtserialport,chardev=qga0,name=org.qemu.guest_agent.0");
    }
    if get("rng0").is_some() {
        line.add("-object", "rng-random,filename=/dev/urandom,id=rng0");
        line.device(&format!("virtio-rng-pci,rng=rng0,bus={pci},addr=0x1d"));
    }

    let order = BootOrder::of(config);
    add_nics(&mut line, nics, forwards, pci, &order);
    let mut controllers = Controllers::new(pci, get("scsihw").unwrap_or("lsi"), q35);
    for drive in drives(vm)? {
        add_drive(&mut line, &mut controllers, &drive, &order)?;
    }
    Ok(line.0)
}

/// The UUID, the generation ID, and OVMF if it is the firmware.
fn add_identity_and_firmware(line: &mut CommandLine, vm: &VmSpec) -> Result<(), String> {
    let config = &vm.config;
    let get = |key: &str| config.get(key).map(String::as_str);
    if let Some(smbios) = get("smbios1") {
        line.add("-smbios", &smbios_type_1(smbios));
    }
    if let Some(generation) = get("vmgenid").filter(|id| *id != "0") {
        line.device(&format!(
            "vmgenid,guid={}",
            if generation == "1" {
                "auto"
            } else {
                generation
            }
        ));
    }
    if get("bios") == Some("ovmf") {
        let files = firmware::prepare(
            config,
            vm.volumes.get("efidisk0").map(PathBuf::as_path),
            &vm.run_dir,
        )?;
        for (unit, (file, read_only)) in [(files.code, true), (files.vars, false)]
            .into_iter()
            .enumerate()
        {
            let name = format!("pflash{unit}");
            line.blockdev(&name, &file, Format::Raw, read_only, &Properties::parse(""));
            line.add("-machine", &format!("pflash{unit}={name}"));
        }
    }
    Ok(())
}

fn add_nics(
    line: &mut CommandLine,
    nics: &[Nic],
    forwards: &[Forward],
    pci: &str,
    order: &BootOrder,
) {
    for nic in nics {
        // Slots 18 to 23, so that the first is ens18 as on PVE; further ones where there is room.
        let slot = match nic.index {
            index @ 0..=5 => format!(",bus={pci},addr={:#x}", 0x12 + index),
            _ => String::new(),
        };
        let boot = match order.index(&format!("net{}", nic.index)) {
            // No boot ROM: the firmware then need not look at the card at all.
            None => ",romfile=".into(),
            Some(index) => format!(",bootindex={index}"),
        };
        for argument in nic.arguments(&slot, &boot, forwards) {
            line.0.push(argument);
        }
    }
}

#[derive(Default)]
struct CommandLine(Vec<String>);

impl CommandLine {
    fn add(&mut self, option: &str, value: &str) {
        self.0.push(option.to_owned());
        if !value.is_empty() {
            self.0.push(value.to_owned());
        }
    }

    fn device(&mut self, value: &str) {
        self.add("-device", value);
    }

    /// A block device in JSON, in which file names need no escaping.
    fn blockdev(
        &mut self,
        name: &str,
        file: &Path,
        format: Format,
        read_only: bool,
        options: &Properties,
    ) {
        let discard = options.get("discard") == Some("on");
        let mut node = json!({
            "node-name": name,
            "driver": format.name(),
            "read-only": read_only,
            "file": {"driver": "file", "filename": file, "read-only": read_only},
        });
        if discard {
            node["discard"] = json!("unmap");
            node["file"]["discard"] = json!("unmap");
        }
        if !read_only {
            // What a guest flushes need only survive QEMU, not this machine: tests do not wait
            // for its disk.
            node["cache"] = json!({"no-flush": true});
        }
        self.add("-blockdev", &node.to_string());
    }
}

fn processors(config: &Config, available: u32) -> u32 {
    let number = |key: &str| {
        let value = config.get(key).and_then(|value| value.parse::<u32>().ok());
        value.unwrap_or(1).max(1)
    };
    number("cores")
        .saturating_mul(number("sockets"))
        .min(available.max(1))
}

/// MiB of memory.
fn memory(config: &Config) -> Result<u32, String> {
    let Some(value) = config.get("memory") else {
        return Ok(512);
    };
    Properties::parse(value)
        .default_key("current")
        .and_then(|memory| memory.parse().ok())
        .ok_or_else(|| format!("unable to parse memory '{value}'"))
}

fn smbios_type_1(value: &str) -> String {
    let properties = Properties::parse(value);
    let encoded = properties.on("base64");
    let mut text = String::from("type=1");
    for (key, value) in properties.iter().filter(|(key, _)| *key != "base64") {
        let decoded = (encoded && key != "uuid")
            .then(|| base64::engine::general_purpose::STANDARD.decode(value).ok())
            .flatten()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let value = decoded.as_deref().unwrap_or(value).replace(',', ",,");
        text += &format!(",{key}={value}");
    }
    text
}

/// A display adapter for guests that want one; what it shows nobody sees.
fn display(line: &mut CommandLine, vga: Option<&str>) {
    let kind = vga.and_then(|vga| Properties::parse(vga).default_key("type"));
    match kind {
        Some(kind) if kind == "none" || kind.starts_with("serial") => line.add("-vga", "none"),
        _ => line.add("-vga", "std"),
    }
}

/// The socket of a serial port.
pub(super) fn serial_socket(port: &str) -> String {
    format!("{port}.sock")
}

/// `serialN: socket`, whose output is kept in `serialN.log` too (the first: `serial.log`).
fn serial_ports(line: &mut CommandLine, config: &Config) {
    for (index, key, _) in indexed(config, "serial") {
        let log = if index == 0 {
            "serial.log".into()
        } else {
            format!("{key}.log")
        };
        line.add(
            "-chardev",
            &format!(
                "socket,id={key},path={},server=on,wait=off,logfile={log},logappend=on",
                serial_socket(key)
            ),
        );
        line.device(&format!("isa-serial,chardev={key},index={index}"));
    }
}

fn drives(vm: &VmSpec) -> Result<Vec<Drive<'_>>, String> {
    let mut drives = Vec::new();
    for (key, value) in &vm.config {
        let Some((bus, index)) = drive_key(key) else {
            continue;
        };
        let drive = Drive {
            key,
            bus,
            index,
            options: Properties::parse(value),
            medium: vm.volumes.get(key).map(PathBuf::as_path),
        };
        if drive.medium.is_none() && !drive.is_cdrom() {
            return Err(format!("drive '{key}' has no volume"));
        }
        drives.push(drive);
    }
    // Drives without a slot of their own take the first free one: last, behind all that have one.
    drives.sort_by_key(|drive| {
        (
            drive.bus == Bus::Scsi,
            drive.bus == Bus::Virtio && drive.index > 5,
            drive.index,
        )
    });
    Ok(drives)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Qcow2,
    Vmdk,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
        }
    }

    /// By the volume's name, as PVE does it; a raw image under another format's name (a
    /// cloud-init drive) is raw. Content alone never decides: a guest writes that.
    pub(super) fn of(file: &Path) -> Result<Self, String> {
        let (format, magic): (_, &[u8]) = match file.extension().and_then(|name| name.to_str()) {
            Some("qcow2") => (Format::Qcow2, b"QFI\xfb"),
            Some("vmdk") => (Format::Vmdk, b"KDMV"),
            _ => return Ok(Format::Raw),
        };
        let mut start = Vec::new();
        File::open(file)
            .and_then(|file| file.take(4).read_to_end(&mut start))
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok(if start == magic { format } else { Format::Raw })
    }
}

/// Controllers are added with the first drive that needs them.
struct Controllers<'a> {
    pci: &'a str,
    scsi: &'a str,
    q35: bool,
    added: Vec<String>,
}

impl<'a> Controllers<'a> {
    fn new(pci: &'a str, scsi: &'a str, q35: bool) -> Self {
        Self {
            pci,
            scsi,
            q35,
            added: Vec::new(),
        }
    }

    fn add(&mut self, line: &mut CommandLine, id: &str, device: &str) {
        if !self.added.iter().any(|added| added == id) {
            line.device(&format!("{device},id={id}"));
            self.added.push(id.to_owned());
        }
    }

    /// The `bus=...` part of a drive's device, and its controller on the line before it.
    fn bus(&mut self, line: &mut CommandLine, drive: &Drive) -> String {
        let (pci, index) = (self.pci, drive.index);
        match drive.bus {
            Bus::Ide if self.q35 => format!("bus=ide.{index}"),
            Bus::Ide => format!("bus=ide.{},unit={}", index / 2, index % 2),
            Bus::Sata => {
                self.add(line, "ahci0", &format!("ahci,bus={pci},addr=0x7"));
                format!("bus=ahci0.{index}")
            }
            Bus::Scsi => {
                let (id, device, number) = match self.scsi {
                    "virtio-scsi-single" => (format!("virtioscsi{index}"), "virtio-scsi-pci", 0),
                    "virtio-scsi-pci" => ("scsihw0".into(), "virtio-scsi-pci", index),
                    other => (format!("scsihw{}", index / 7), scsi_model(other), index % 7),
                };
                let slot = if id == "scsihw0" {
                    format!(",bus={pci},addr=0x5")
                } else {
                    String::new()
                };
                self.add(line, &id, &format!("{device}{slot}"));
                if device == "virtio-scsi-pci" {
                    format!("bus={id}.0,channel=0,scsi-id=0,lun={number}")
                } else {
                    format!("bus={id}.0,scsi-id={number}")
                }
            }
            Bus::Virtio if index <= 5 => format!("bus={pci},addr={:#x}", 0xa + index),
            Bus::Virtio => format!("bus={pci}"),
        }
    }
}

/// QEMU's name for PVE's.
fn scsi_model(scsihw: &str) -> &str {
    match scsihw {
        "lsi" => "lsi53c895a",
        other => other,
    }
}

fn add_drive(
    line: &mut CommandLine,
    controllers: &mut Controllers,
    drive: &Drive,
    order: &BootOrder,
) -> Result<(), String> {
    let (key, cdrom) = (drive.key, drive.is_cdrom());
    let node = format!("drive-{key}");
    if let Some(file) = drive.medium {
        let read_only = cdrom || drive.options.get("ro").is_some_and(truthy);
        line.blockdev(&node, file, Format::of(file)?, read_only, &drive.options);
    }
    let model = match (drive.bus, cdrom) {
        (Bus::Ide | Bus::Sata, true) => "ide-cd",
        (Bus::Ide | Bus::Sata, false) => "ide-hd",
        (Bus::Scsi, true) => "scsi-cd",
        (Bus::Scsi, false) => "scsi-hd",
        (Bus::Virtio, _) => "virtio-blk-pci",
    };
    let mut device = format!("{model},id={key},{}", controllers.bus(line, drive));
    if drive.medium.is_some() {
        device += &format!(",drive={node}");
    }
    if drive.bus == Bus::Scsi {
        // As PVE has it since machine version 10: by this udev names the disk, /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi0.
        device += &format!(",device_id={node}");
    }
    if !cdrom {
        if drive.bus != Bus::Virtio && drive.options.on("ssd") {
            device += ",rotation_rate=1";
        }
        if let Some(serial) = drive.options.get("serial") {
            device += &format!(",serial={serial}");
        }
        match drive.options.get("cache") {
            Some("writethrough" | "directsync") => device += ",write-cache=off",
            Some(_) => device += ",write-cache=on",
            None => {}
        }
    }
    if let Some(index) = order.index(key) {
        device += &format!(",bootindex={index}");
    }
    line.device(&device);
    Ok(())
}

#[cfg(test)]
mod tests;
