//! The module itself, as Ansible runs it, against a real OpenSSH server and a script in place of
//! nixos-anywhere that calls `ssh` as the real one does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use module_lab::sshd::{
    INSTALLED, INSTALLER, OTHER, Sshd, executable, free_port, keygen, locked_keygen,
};
use module_lab::{failure, shown};
use serde_json::{Value, json};

const SYSTEM: &str = "/nix/store/aaa-nixos-system-web1";

/// What nixos-anywhere would take from the environment.
const UNWANTED: [&str; 3] = ["SSHPASS", "SSH_PRIVATE_KEY", "copyHostKeys"];

/// A guest, and a controller with its tools.
struct Lab {
    sshd: Sshd,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new(os_release: &str) -> Self {
        Self::with(Sshd::start(os_release))
    }

    fn with(sshd: Sshd) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tools", "tmp", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let lab = Self { sshd, dir };
        let store = format!("echo {SYSTEM}");
        lab.tool(
            "nix",
            // Asked to run something, it runs what would be installed otherwise.
            &format!(
                "if [ \"$1\" = run ]; then\n\
                   while [ \"$1\" != -- ]; do shift; done; shift\n\
                   exec bash \"${{0%/*}}/of-the-flake\" \"$@\"\n\
                 fi\n\
                 for word; do case $word in *toplevel) {store} ;; *diskoScript) echo /nix/store/bbb-disko ;; esac; done"
            ),
        );
        lab.tool("nixos-anywhere", &lab.installs("", SYSTEM));
        for command in ["umount", "swapoff"] {
            let log = lab.sshd.path("released");
            lab.sshd.add_command(
                command,
                &format!("#!/bin/sh\necho {command} \"$@\" >>{}\n", log.display()),
            );
        }
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program that takes notes of its calls, except of questions that Nix answers at once.
    fn tool(&self, name: &str, script: &str) {
        let ran = self.path("ran");
        let text = format!(
            "#!/bin/bash\nset -e\n[ \"$1\" != --version ] || {{ echo 'nix (Nix) 2.28.3'; exit; }}\n\
             case \"$1 $2\" in 'config show' | 'path-info --closure-size') exit ;; esac\n\
             echo {name} \"$@\" >>{}\n{script}\n",
            ran.display()
        );
        executable(&self.path("tools").join(name), &text);
    }

    /// A nixos-anywhere: its ssh calls have the real one's options. `extra` runs after the first
    /// login.
    fn installs(&self, extra: &str, system: &str) -> String {
        let profiles = self.sshd.path("mnt/nix/var/nix/profiles");
        let profiles = profiles.display();
        format!(
            r#"
host=$1
while [ $# -gt 0 ]; do
  case $1 in -i) key=$2 ;; --ssh-port) port=$2 ;; esac
  shift
done
remote() {{
  ssh -T -o IdentitiesOnly=yes -i "$key" -o UserKnownHostsFile=/dev/null \
    -o StrictHostKeyChecking=no -p "$port" "$host" "$@"
}}
env >{environment}
{{ stat -c 'key %a' "$key"; echo "home $HOME"; mktemp -p "$HOME/.ssh" ssh-copy-id.XXXX; }} >{seen}
echo '### Uploading install SSH keys ###'
until remote exit; do sleep 0.1; done
{extra}
echo '### Formatting hard drive with disko ###'
remote 'mkdir -p {profiles}'
echo '### Installing NixOS ###'
echo 'a warning' >&2
remote 'ln -sfn {system} {profiles}/system-1-link; ln -sfn system-1-link {profiles}/system'
echo '### Done! ###'
"#,
            environment = self.path("environment").display(),
            seen = self.path("seen").display()
        )
    }

    fn arguments(&self, more: Value) -> Value {
        let mut arguments = json!({
            "host": "127.0.0.1",
            "port": self.sshd.port,
            "user": self.sshd.user,
            "private_key_file": self.sshd.client_key(),
            "host_keys": [self.sshd.host_key("ed25519")],
            "flake": "/infra#web1",
            "tools_path": self.path("tools"),
            "log_path": self.path("log"),
            "progress_path": self.path("progress"),
            "timeout": 60,
            "_ansible_check_mode": false,
            "_ansible_diff": true,
        });
        for (key, value) in more.as_object().unwrap() {
            arguments[key] = value.clone();
        }
        arguments
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        arguments
    }

    fn start(&self, more: Value) -> Child {
        self.command(more).spawn().unwrap()
    }

    fn command(&self, more: Value) -> Command {
        let file = self.path("arguments.json");
        fs::write(&file, self.arguments(more).to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixos_anywhere_install"));
        command
            .arg(&file)
            .env("TMPDIR", self.path("tmp"))
            .env("HOME", self.path("home"))
            .envs(UNWANTED.map(|name| (name, "distinctive")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn run(&self, more: Value) -> Value {
        let output = self.start(more).wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let result: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        let failed = result["failed"] == true;
        assert_eq!(output.status.success(), !failed, "{result}");
        // Whatever happened: nothing private stays.
        assert_eq!(entries(&self.path("tmp")), 0, "{result}");
        assert_eq!(entries(&self.path("home")), 0, "{result}");
        result
    }

    /// Until the module says that it waits because of this.
    fn waits(&self, reason: &str) {
        let progress = self.path("progress");
        until(reason, || {
            fs::read_to_string(&progress).is_ok_and(|text| text.contains(reason))
        });
    }

    /// The programs that ran, with their arguments.
    fn ran(&self) -> String {
        fs::read_to_string(self.path("ran")).unwrap_or_default()
    }

    fn progress(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("progress")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

fn text<'a>(result: &'a Value, pointer: &str) -> &'a str {
    result
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// The names of the phases, one a line.
fn phases(result: &Value) -> String {
    let phases = result["phases"].as_array().unwrap().iter();
    let names: Vec<&str> = phases
        .map(|phase| phase["name"].as_str().unwrap())
        .collect();
    names.join("\n")
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process is gone, or a zombie that nobody has reaped yet.
fn gone(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
    }
}

#[test]
fn an_installer_is_installed() {
    let lab = Lab::new(INSTALLER);
    let result = lab.run(json!({
        "extra_files": [{"path": "/etc/secret", "content": "hunter2"}],
    }));
    assert_snapshot!(shown(&result, "changed closure released"), @r#"
    changed: true
    closure: /nix/store/aaa-nixos-system-web1
    released: true
    "#);
    assert_eq!(result["guest"]["kind"], "installer");
    assert_eq!(result["guest"]["host_key"], "installer");
    assert_snapshot!(phases(&result), @"
    Building the configuration
    Uploading install SSH keys
    Formatting hard drive with disko
    Installing NixOS
    Verifying and releasing the disks
    ");

    let ran = lab.ran();
    let programs: Vec<&str> = ran.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(programs, ["nix", "nixos-anywhere"]);
    assert!(
        ran.contains("#nixosConfigurations.web1.config.system.build.toplevel"),
        "{ran}"
    );
    assert!(
        ran.contains(&format!("--store-paths /nix/store/bbb-disko {SYSTEM}")),
        "{ran}"
    );
    let environment = fs::read_to_string(lab.path("environment")).unwrap();
    assert!(!environment.contains("distinctive"), "{environment}");
    let seen = fs::read_to_string(lab.path("seen")).unwrap();
    assert!(seen.contains("key 600\n"), "{seen}");
    assert!(!seen.contains(lab.path("home").to_str().unwrap()), "{seen}");
    let released = fs::read_to_string(lab.sshd.path("released")).unwrap();
    assert!(released.contains("umount -Rv "), "{released}");
    assert!(released.contains("swapoff -a"), "{released}");

    let log = lab.log();
    assert!(log.contains("### Installing NixOS ###\n"), "{log}");
    assert!(log.contains("a warning\n"), "{log}");
    assert!(!log.contains("Permanently added"), "{log}");
    assert!(!log.contains("hunter2") && !result.to_string().contains("hunter2"));
    let mode = |name: &str| lab.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("log"), mode("progress")), (0o600, 0o600));
    let progress = fs::read_to_string(lab.path("progress")).unwrap();
    assert!(
        progress.contains("\"phase\":\"Installing NixOS\""),
        "{progress}"
    );
    let events: Vec<Value> = lab
        .progress()
        .into_iter()
        .filter(|line| line["phase"] == "Installing NixOS" && line["event"] != "running")
        .map(|line| line["event"].clone())
        .collect();
    assert_eq!(events, ["phase", "phase_ended"]);
}

#[test]
fn an_installed_system_is_left_alone() {
    let lab = Lab::new(INSTALLED);
    lab.sshd.set_current_system(SYSTEM);
    let result = lab.run(json!({}));
    assert_eq!(result["changed"], false, "{result}");
    assert_eq!(result["closure"], SYSTEM, "{result}");
    assert_eq!(result["guest"]["kind"], "installed");
    assert_eq!(lab.ran(), "");
    assert_eq!(lab.sshd.commands(), "exec sh\n");
}

#[test]
fn another_system_is_refused() {
    let lab = Lab::new(OTHER);
    let result = lab.run(json!({}));
    assert_snapshot!(failure(&result), @"
    refused: 127.0.0.1 runs debian (), not a NixOS installer; nothing was done to it
      boot the installer, or set allow_kexec to destroy what is there
    ");
    assert_eq!(lab.ran(), "");
}

#[test]
fn a_machine_with_another_key_is_refused() {
    let lab = Lab::new(INSTALLER);
    keygen(&lab.path("other"), "ed25519");
    let other = fs::read_to_string(lab.path("other.pub")).unwrap();
    let result = lab.run(json!({"host_keys": [other]}));
    assert_snapshot!(failure(&result), @"
    host_key: 127.0.0.1 port [port] offers the host key ssh-ed25519 SHA256:[key], which is not a known one (installer ssh-ed25519 SHA256:[key]); nothing was sent to it
      either this is another machine, or its keys were made anew: compare the offered fingerprint with the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)
    ");
    assert_eq!(lab.sshd.commands(), "");
    assert_eq!(lab.ran(), "");
}

#[test]
fn a_check_only_looks() {
    let lab = Lab::new(INSTALLER);
    let result = lab.run(json!({"_ansible_check_mode": true}));
    assert_eq!(result["changed"], true, "{result}");
    assert_eq!(result["guest"]["kind"], "installer");
    assert_eq!(lab.ran(), "");

    let port = free_port();
    let result = lab.run(json!({"_ansible_check_mode": true, "port": port}));
    assert_eq!(result["changed"], true, "{result}");
    assert_eq!(result["guest"]["kind"], "unreachable");
    let result = lab.run(json!({"_ansible_check_mode": true, "port": port, "state": "probed"}));
    assert_eq!(result["changed"], false, "{result}");
    assert_eq!(result["guest"]["kind"], "unreachable");
}

#[test]
fn an_unreachable_machine_is_an_error_with_what_was_tried() {
    let lab = Lab::new(INSTALLER);
    let result = lab.run(json!({"port": free_port(), "timeout": 3}));
    assert_snapshot!(failure(&result), @"
    timeout: waited [seconds] s for SSH to 127.0.0.1 port [port] (timeout 3 s); last attempt: connection refused by 127.0.0.1 port [port]
      look at the machine's console; raise timeout if it is slow
    ");
}

#[test]
fn a_build_that_fails_costs_nothing_on_the_machine() {
    let lab = Lab::new(INSTALLER);
    lab.tool(
        "nix",
        "echo 'error: syntax error, unexpected }' >&2; echo more >&2; exit 1",
    );
    let result = lab.run(json!({}));
    assert_snapshot!(failure(&result), @r#"
    tool_failed: nix build /infra#nixosConfigurations.web1.config.system.build.toplevel /infra#nixosConfigurations.web1.config.system.build.diskoScript for 127.0.0.1 ended with exit status 1 in the phase "Building the configuration": error: syntax error, unexpected }
      nothing was done to the machine; the same command on the controller shows the whole error
    "#);
    assert!(text(&result, "/error/detail").contains("more"), "{result}");
    assert_eq!(result["changed"], false, "{result}");
    assert!(!lab.sshd.commands().contains("mkdir"));
}

#[test]
fn a_failed_phase_is_named() {
    let lab = Lab::new(INSTALLER);
    lab.tool(
        "nixos-anywhere",
        &lab.installs(
            "echo '### Formatting hard drive with disko ###'; echo 'no /dev/vda' >&2; exit 7",
            SYSTEM,
        ),
    );
    let result = lab.run(json!({}));
    let msg = text(&result, "/msg");
    assert!(msg.contains("exit status 7"), "{msg}");
    assert!(msg.contains("Formatting hard drive with disko"), "{msg}");
    assert!(msg.contains("no /dev/vda"), "{msg}");
    assert_eq!(result["error"]["status"], 7);
    assert_eq!(result["changed"], true, "{result}");
    assert_eq!(result["log_path"], lab.path("log").to_str().unwrap());
}

/// The machine is exchanged for another one between our look and nixos-anywhere's first login.
#[test]
fn the_endless_login_loop_at_a_wrong_key_is_ended() {
    let lab = Lab::new(INSTALLER);
    let stranger = Sshd::start(INSTALLER);
    let script = lab
        .installs("", SYSTEM)
        .replace("port=$2", &format!("port={}", stranger.port));
    lab.tool("nixos-anywhere", &script);
    let result = lab.run(json!({}));
    assert_eq!(result["error"]["kind"], "host_key", "{result}");
    assert!(text(&result, "/msg").contains("host key"), "{result}");
    assert_eq!(stranger.commands(), "");
    assert!(!stranger.log().contains("userauth"), "{}", stranger.log());
}

#[test]
fn an_ssh_that_verifies_nothing_is_noticed() {
    let lab = Lab::new(INSTALLER);
    // It is wrapped with an ssh of its own before those of PATH.
    let script = lab.installs("echo '### Gathering machine facts ###'; sleep 60", SYSTEM);
    let script =
        format!("PATH=/usr/bin:$PATH\n{script}").replace("ssh -T", "ssh -o BatchMode=yes -T");
    lab.tool("nixos-anywhere", &script);
    let result = lab.run(json!({}));
    assert_eq!(result["error"]["kind"], "host_key", "{result}");
    let msg = text(&result, "/msg");
    assert!(msg.contains("does not verify"), "{msg}");
}

#[test]
fn another_system_than_the_one_built_is_an_error() {
    let lab = Lab::new(INSTALLER);
    lab.tool("nixos-anywhere", &lab.installs("", "/nix/store/ccc-other"));
    let result = lab.run(json!({}));
    assert_snapshot!(failure(&result), @"
    wrong_system: /nix/store/ccc-other was installed instead of /nix/store/aaa-nixos-system-web1
      changed: true
    ");
}

/// A nixos-anywhere that writes down its processes and never ends, not even when asked to.
fn stubborn(lab: &Lab) -> String {
    format!(
        "trap '' TERM\nsleep 600 &\nmktemp\necho $$ $! >{0}.new; mv {0}.new {0}\n\
         while :; do sleep 1; done",
        lab.path("pids").display()
    )
}

fn pids(lab: &Lab) -> Vec<String> {
    until("the program started", || lab.path("pids").exists());
    let text = fs::read_to_string(lab.path("pids")).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_deadline_ends_everything() {
    let lab = Lab::new(INSTALLER);
    lab.tool("nixos-anywhere", &stubborn(&lab));
    let result = lab.run(json!({"timeout": 20}));
    assert_snapshot!(failure(&result), @"
    timeout: nixos-anywhere for 127.0.0.1 was ended: waited [seconds] s for nixos-anywhere (timeout 20 s)
      raise timeout if the installation needs longer
    ");
    let running: Vec<Value> = lab
        .progress()
        .into_iter()
        .filter(|line| line["event"] == "running")
        .collect();
    assert!(!running.is_empty());
    for line in running {
        assert_eq!(line["host"], "127.0.0.1", "{line}");
        assert!(line["seconds"].as_f64().unwrap() >= 2.0, "{line}");
    }
    assert!(text(&result, "/msg").contains("nixos-anywhere"), "{result}");
    for pid in pids(&lab) {
        until("its processes are gone", || gone(&pid));
    }
}

#[test]
fn the_deadline_ends_output_that_never_pauses() {
    let lab = Lab::new(INSTALLER);
    lab.tool("nixos-anywhere", "exec yes");
    let since = std::time::Instant::now();
    let result = lab.run(json!({"timeout": 5}));
    assert_snapshot!(failure(&result), @"
    timeout: nixos-anywhere for 127.0.0.1 was ended: waited [seconds] s for nixos-anywhere (timeout 5 s)
      raise timeout if the installation needs longer
    ");
    assert!(since.elapsed().as_secs() < 60, "{:?}", since.elapsed());
}

#[test]
fn nothing_outlives_a_killed_module() {
    for signal in ["-KILL", "-TERM"] {
        let lab = Lab::new(INSTALLER);
        lab.tool("nixos-anywhere", &stubborn(&lab));
        let mut module = lab.start(json!({}));
        let pids = pids(&lab);
        assert!(!pids.iter().any(|pid| gone(pid)));
        let status = Command::new("kill")
            .args([signal, &module.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        module.wait().unwrap();
        for pid in pids {
            until(&format!("{signal}: its processes are gone"), || gone(&pid));
        }
        until(&format!("{signal}: its private directory is gone"), || {
            entries(&lab.path("tmp")) == 0
        });
    }
}

#[test]
fn a_missing_tool_is_named() {
    let lab = Lab::new(INSTALLER);
    let result = lab.run(json!({"nixos_anywhere": "nixos-anywhere-of-tomorrow"}));
    assert_snapshot!(failure(&result), @"tool_missing: nixos_anywhere: the program nixos-anywhere-of-tomorrow was not found (looked in [path]); install it on the controller");
    assert_eq!(lab.ran(), "");
}

#[test]
fn a_probe_waits_for_what_is_expected() {
    let lab = Lab::new(INSTALLER);
    let result = lab.run(json!({"state": "probed"}));
    assert_eq!(result["guest"]["kind"], "installer", "{result}");
    assert_eq!(result["changed"], false);
    let mut module = lab.start(json!({"state": "probed", "expect": "installed"}));
    lab.waits("not yet an installed NixOS");
    lab.sshd.set_os_release(INSTALLED);
    assert!(module.wait().unwrap().success());
}

#[test]
fn the_installed_system_is_verified() {
    let lab = Lab::new(INSTALLED);
    lab.sshd.set_current_system(SYSTEM);
    lab.sshd.add_command(
        "systemctl",
        "#!/bin/sh\necho 'nginx.service loaded failed failed A web server'\n",
    );
    let more = |key: &str, closure: &str| {
        json!({
            "state": "verified", "host_keys": [], "installed_host_keys": [key],
            "closure": closure,
        })
    };
    let key = lab.sshd.host_key("ed25519");
    let result = lab.run(more(&key, SYSTEM));
    assert_eq!(result["guest"]["host_key"], "installed", "{result}");
    assert_eq!(result["closure"], SYSTEM);
    assert_eq!(result["failed_units"], json!(["nginx.service"]));
    assert!(
        result["warnings"][0]
            .as_str()
            .unwrap()
            .contains("nginx.service")
    );
    let mut strict = more(&key, SYSTEM);
    strict["fail_on_failed_units"] = json!(true);
    let result = lab.run(strict);
    assert_snapshot!(failure(&result), @"
    failed_units: 127.0.0.1 port [port] runs, but units failed on it: nginx.service
      on the machine: journalctl -b -u nginx.service
    ");
    assert_eq!(result["failed_units"], json!(["nginx.service"]));

    // It is not what is wanted until it is.
    let next = "/nix/store/ddd-next";
    lab.sshd.set_os_release(INSTALLER);
    let mut module = lab.start(more(&key, next));
    lab.waits("it still runs an installer");
    lab.sshd.set_os_release(INSTALLED);
    lab.waits(&format!("it runs {SYSTEM} instead of {next}"));
    lab.sshd.set_current_system(next);
    assert!(module.wait().unwrap().success());
}

#[test]
fn a_user_key_with_a_passphrase_is_an_error_at_once() {
    let lab = Lab::new(INSTALLER);
    let key = lab.path("locked");
    locked_keygen(&key, "ed25519", "secret");
    let result = lab.run(json!({"private_key_file": key}));
    assert_snapshot!(failure(&result), @"private_key: private_key_file: [dir]/locked: it has a passphrase, which nobody can be asked for here; use a key without one, or an agent");
}

/// With `store_paths` that `state: built` gave: nothing is built again.
#[test]
fn what_was_built_before_is_installed() {
    let lab = Lab::new(INSTALLER);
    let [disko, system] = ["disko", "system"].map(|name| lab.path(name));
    for path in [&disko, &system] {
        fs::write(path, "").unwrap();
    }
    let store = format!(
        "for word; do case $word in *toplevel) echo {} ;; *diskoScript) echo {} ;; esac; done",
        system.display(),
        disko.display()
    );
    lab.tool("nix", &store);
    lab.tool(
        "nixos-anywhere",
        &lab.installs("", system.to_str().unwrap()),
    );
    // Neither a machine nor its keys are needed.
    let building = json!({
        "state": "built", "host": null, "host_keys": null, "port": null, "user": null,
        "private_key_file": null, "log_path": lab.path("build-log"),
    });
    let mut check = building.clone();
    check["_ansible_check_mode"] = json!(true);
    let result = lab.run(check);
    assert_eq!(result["changed"], false, "{result}");
    assert!(
        text(&result, "/msg").contains("would build /infra#"),
        "{result}"
    );
    assert_eq!(
        result["installables"],
        json!([
            "/infra#nixosConfigurations.web1.config.system.build.toplevel",
            "/infra#nixosConfigurations.web1.config.system.build.diskoScript"
        ])
    );
    // It evaluates what would be built.
    let ran = lab.ran();
    assert!(ran.starts_with("nix path-info --derivation "), "{ran}");
    let both = "config.system.build.toplevel /infra#nixosConfigurations.web1.config.system.build.diskoScript\n";
    assert!(ran.ends_with(both), "{ran}");
    assert_eq!(ran.lines().count(), 1);

    let result = lab.run(building);
    assert_eq!(result["changed"], false, "{result}");
    let paths = json!({"disko": disko, "system": system});
    assert_eq!(result["store_paths"], paths);
    assert_eq!(result["closure"], json!(system));
    assert_eq!(result["phases"][0]["name"], "Building the configuration");
    let events: Vec<Value> = lab
        .progress()
        .into_iter()
        .filter(|line| line["event"] != "running")
        .map(|line| json!([line["event"], line["host"]]))
        .collect();
    assert_eq!(
        events,
        [json!(["phase", null]), json!(["phase_ended", null])]
    );
    let log = fs::read_to_string(lab.path("build-log")).unwrap();
    assert!(log.contains("$ nix build /infra#"), "{log}");
    assert_eq!(lab.sshd.commands(), "");

    let result = lab.run(json!({"flake": null, "store_paths": result["store_paths"]}));
    assert_eq!(result["changed"], true, "{result}");
    assert_eq!(result["closure"], json!(system));
    let ran = lab.ran();
    let programs: Vec<&str> = ran.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(programs, ["nix", "nix", "nixos-anywhere"]);

    // They may have been removed from the store since.
    fs::remove_file(&disko).unwrap();
    let gone = lab.run(json!({"flake": null, "store_paths": paths}));
    assert_eq!(gone["error"]["kind"], "invalid_option", "{gone}");
    assert!(text(&gone, "/msg").contains("store_paths"), "{gone}");
}

#[test]
fn a_build_is_bounded_and_ends_with_its_module() {
    let building = json!({"state": "built", "timeout": 15});
    let lab = Lab::new(INSTALLER);
    lab.tool("nix", "echo 'error: no such attribute' >&2; exit 1");
    let result = lab.run(building.clone());
    assert_snapshot!(failure(&result), @r#"
    tool_failed: nix build /infra#nixosConfigurations.web1.config.system.build.toplevel /infra#nixosConfigurations.web1.config.system.build.diskoScript for 127.0.0.1 ended with exit status 1 in the phase "Building the configuration": error: no such attribute
      nothing was done to the machine; the same command on the controller shows the whole error
    "#);
    // Nix has the temporary directory of its user.
    lab.tool("nix", &stubborn(&lab).replace("mktemp\n", ""));
    let result = lab.run(building);
    assert_snapshot!(failure(&result), @r#"
    timeout: nix build /infra#nixosConfigurations.web1.config.system.build.toplevel /infra#nixosConfigurations.web1.config.system.build.diskoScript for 127.0.0.1 was ended in the phase "Building the configuration": waited [seconds] s for nix build /infra#nixosConfigurations.web1.config.system.build.toplevel /infra#nixosConfigurations.web1.config.system.build.diskoScript (timeout 15 s)
      raise timeout if the installation needs longer
    "#);
    assert_eq!(result["phases"][0]["name"], "Building the configuration");
    for pid in pids(&lab) {
        until("its processes are gone", || gone(&pid));
    }
    fs::remove_file(lab.path("pids")).unwrap();
    let mut module = lab.start(json!({"state": "built"}));
    let pids = pids(&lab);
    module.kill().unwrap();
    module.wait().unwrap();
    for pid in pids {
        until("its processes are gone", || gone(&pid));
    }
    assert_eq!(lab.sshd.commands(), "");
}

#[test]
fn what_is_built_on_the_machine_is_not_built_before() {
    let lab = Lab::new(INSTALLER);
    let result = lab.run(json!({"state": "built", "build_on": "remote"}));
    assert_eq!(
        (&result["changed"], &result["store_paths"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(lab.ran(), "");
}

#[test]
fn nix_runs_a_pinned_nixos_anywhere_where_there_is_none() {
    let lab = Lab::new(INSTALLER);
    fs::rename(
        lab.path("tools/nixos-anywhere"),
        lab.path("tools/of-the-flake"),
    )
    .unwrap();
    let result = lab.run(json!({"nix_options": {"cores": "2"}}));
    assert_eq!(result["closure"], SYSTEM, "{result}");
    let ran = lab.ran();
    let line = ran
        .lines()
        .find(|line| line.starts_with("nix run "))
        .unwrap();
    let prefix = "nix run --extra-experimental-features nix-command flakes --no-write-lock-file \
                  github:nix-community/nixos-anywhere/";
    let rest = line
        .strip_prefix(prefix)
        .unwrap_or_else(|| panic!("{line}"));
    let (revision, rest) = rest.split_once(" -- ").unwrap();
    assert_eq!(revision.len(), 40, "{revision}");
    assert!(
        rest.starts_with(&format!("{}@127.0.0.1 --phases ", lab.sshd.user)),
        "{rest}"
    );

    let lab = Lab::new(INSTALLER);
    fs::remove_file(lab.path("tools/nixos-anywhere")).unwrap();
    let result = lab.run(json!({"nixos_anywhere_flake": ""}));
    assert_snapshot!(failure(&result), @"tool_missing: nixos_anywhere: the program nixos-anywhere was not found (looked in [path]); install it on the controller (nix profile install github:nix-community/nixos-anywhere), or set nixos_anywhere, nixos_anywhere_flake or tools_path");
}

#[test]
fn missing_programs_are_noticed_before_anything_is_done() {
    let lab = Lab::new(INSTALLER);
    // A PATH with what a controller has, but no Nix.
    let bin = lab.path("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["ssh", "ssh-copy-id", "ssh-keygen"] {
        executable(&bin.join(name), "#!/bin/sh\n");
    }
    fs::remove_file(lab.path("tools/nix")).unwrap();
    for state in ["built", "installed"] {
        for check in [true, false] {
            let output = lab
                .command(json!({"state": state, "_ansible_check_mode": check}))
                .env("PATH", &bin)
                .output()
                .unwrap();
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(result["error"]["kind"], "tool_missing", "{result}");
            assert!(text(&result, "/msg").contains("nix "), "{result}");
        }
    }
    let commands = lab.sshd.commands();
    assert!(commands.lines().all(|line| line == "exec sh"), "{commands}");
}

#[test]
fn another_user_becomes_root_through_sudo() {
    let lab = Lab::with(Sshd::for_another_user(INSTALLER));
    // Installations of other tests, on this same computer, would be waited for and looked for again.
    lab.sshd.add_command("pgrep", "#!/bin/sh\nexit 1\n");
    let user = lab.sshd.user.clone();
    assert_ne!(user, "root");
    let result = lab.run(json!({}));
    assert_eq!(result["changed"], true, "{result}");
    assert_eq!(
        (&result["closure"], &result["released"]),
        (&json!(SYSTEM), &json!(true)),
        "{result}"
    );
    // nixos-anywhere becomes root only in its phase kexec, which does nothing else on an installer.
    let ran = lab.ran();
    let called = format!("nixos-anywhere {user}@127.0.0.1 --phases kexec,disko,install ");
    assert!(ran.contains(&called), "{ran}");
    let commands = lab.sshd.commands();
    let of_root: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("sudo "))
        .collect();
    assert_eq!(of_root[0], "sudo -n true", "{commands}");
    // Another installation is looked for, what was installed is read, and let go of, as root.
    assert_eq!(of_root.len(), 1 + 1 + 1 + 2, "{commands}");
    assert!(
        of_root[2..]
            .iter()
            .all(|line| line.starts_with("sudo -n sh ")),
        "{commands}"
    );

    let lab = Lab::with(Sshd::for_another_user(INSTALLER));
    lab.sshd.add_command(
        "sudo",
        "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n",
    );
    for check in [true, false] {
        let result = lab.run(json!({"_ansible_check_mode": check}));
        assert_eq!(result["error"]["kind"], "permission_denied", "{result}");
        assert!(
            text(&result, "/msg").contains("a password is required"),
            "{result}"
        );
    }
    assert_eq!(lab.ran(), "");
}

#[test]
fn a_failed_bootloader_ends_it_before_the_reboot() {
    let lab = Lab::new(INSTALLER);
    let script = lab.installs("", SYSTEM).replace(
        "echo '### Done! ###'",
        "remote 'echo Failed to install bootloader >&2'\nsleep 30\n\
         echo '### Rebooting ###'\nremote 'touch /rebooted'\necho '### Done! ###'",
    );
    assert!(script.contains("Rebooting"));
    lab.tool("nixos-anywhere", &script);
    let result = lab.run(json!({"phases": ["kexec", "disko", "install", "reboot"]}));
    assert_snapshot!(failure(&result), @r#"
    bootloader: nixos-anywhere for 127.0.0.1 was ended in the phase "Installing NixOS": the bootloader could not be installed
      compare boot.loader with the disko configuration and with the machine's firmware (UEFI or BIOS); it was not rebooted, and can be installed again
      changed: true
    "#);
    assert_eq!(result["changed"], true, "{result}");
    assert!(!lab.sshd.commands().contains("rebooted"));
    // Also when it goes on so fast that the end is there at once.
    lab.tool(
        "nixos-anywhere",
        &script
            .replace("sleep 30\n", "")
            .replace("remote 'touch /rebooted'\n", ""),
    );
    let result = lab.run(json!({}));
    // In which phase that is noticed depends on who is quicker.
    assert_eq!(result["error"]["kind"], "bootloader", "{result}");
}

#[test]
fn endless_logins_are_ended_with_their_reason() {
    let lab = Lab::new(INSTALLER);
    let port = free_port();
    let refused = lab
        .installs("", SYSTEM)
        .replace("port=$2", &format!("port={port}"));
    // ssh-copy-id adds nothing, the machine says why, and nixos-anywhere calls it again.
    let says = |line: &str| {
        let line = format!("while :; do remote 'echo \"{line}\" >&2; false' || sleep 0.1; done");
        lab.installs(&line, SYSTEM)
    };
    let denied = "sh: line 1: .ssh/authorized_keys: Permission denied";
    let read_only = "sh: 1: cannot create .ssh/authorized_keys: Read-only file system";
    let unknown = lab
        .installs("", SYSTEM)
        .replace("key=$2", &format!("key={}", lab.path("stranger").display()));
    keygen(&lab.path("stranger"), "ed25519");
    for (script, reason) in [
        (refused, "refuses connections"),
        (says(denied), denied),
        (says(read_only), "Read-only file system"),
        (unknown, "refuses the login"),
    ] {
        lab.tool("nixos-anywhere", &script);
        let result = lab.run(json!({}));
        assert_eq!(result["error"]["kind"], "endless", "{result}");
        assert!(text(&result, "/msg").contains(reason), "{result}");
        assert_eq!(result["changed"], false, "{result}");
    }
}

/// What an activation script, a builder or a source for git prints is not a verdict, on either stream.
#[test]
fn words_of_the_machine_end_no_installation() {
    let lab = Lab::new(INSTALLER);
    let noise = r####"
echo "Warning: Permanently added 'git.example.org' (ED25519) to the list of known hosts." >&2
echo 'root@h: Permission denied (publickey).' >&2
remote 'for n in 1 2 3 4 5 6; do
  echo "Host key verification failed."; echo "Host key verification failed." >&2
  echo "ssh: connect to host h port 22: Connection refused" >&2
  echo "root@h: Permission denied (publickey)." >&2
done
echo "### Installing NixOS ###"; echo "### Rebooting ###"; echo "### Done! ###"
for n in $(seq 1 100); do echo "### fake $n ###"; done
head -c 5000000 /dev/zero | tr "\0" x
yes "{{ lookup(1) }} $(printf "\033[31m")" | head -30000
printf "\377\376\000abc\n"; echo /nix/store/evil'
"####;
    lab.tool("nixos-anywhere", &lab.installs(noise, SYSTEM));
    let result = lab.run(json!({}));
    assert_eq!(result["changed"], true, "{result}");
    assert_eq!(result["closure"], SYSTEM, "{result}");
    let phases: Vec<&str> = result["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| phase["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        phases,
        [
            "Building the configuration",
            "Uploading install SSH keys",
            "Formatting hard drive with disko",
            "Installing NixOS",
            "Verifying and releasing the disks"
        ]
    );
    let log = lab.log();
    assert!(log.contains("### fake 100 ###"));
    assert!(!log.contains('\u{1b}') && !log.contains('\0'));
}

/// That the installation was done is not a word of the machine either.
#[test]
fn a_success_that_is_only_said_is_a_failure() {
    let lab = Lab::new(INSTALLER);
    let says = "remote 'echo \"### Done! ###\"'; echo '### Done! ###'; exit 3";
    lab.tool("nixos-anywhere", &lab.installs(says, SYSTEM));
    let result = lab.run(json!({}));
    assert_eq!(result["error"]["kind"], "tool_failed", "{result}");
    assert_eq!(result["changed"], false, "{result}");
}

#[test]
fn a_lost_connection_is_named() {
    let lab = Lab::new(INSTALLER);
    // The server's process for this connection goes away in the middle of a command.
    let lost = "echo '### Formatting hard drive with disko ###'; remote 'kill -9 $PPID; sleep 5'";
    lab.tool("nixos-anywhere", &lab.installs(lost, SYSTEM));
    let result = lab.run(json!({}));
    assert_snapshot!(failure(&result), @r#"
    connection_lost: nixos-anywhere for 127.0.0.1 ended with exit status 255 in the phase "Formatting hard drive with disko", because the connection was lost: ssh: the machine closed the connection
      look at the machine's console and at the network
      changed: true
    "#);
    assert_eq!(result["changed"], true, "{result}");
    assert!(text(&result, "/msg").contains("closed"), "{result}");

    // A command that was killed, and one that failed like ssh itself, are no lost connections.
    for command in ["kill -9 $$", "exit 255"] {
        lab.tool(
            "nixos-anywhere",
            &lab.installs(&format!("remote '{command}'"), SYSTEM),
        );
        let result = lab.run(json!({}));
        assert_eq!(result["error"]["kind"], "tool_failed", "{result}");
        assert!(!lab.log().contains("debug1"), "{}", lab.log());
    }
}

/// Its `set -x` shows commands and variables: none of them is a secret.
#[test]
fn debugging_shows_no_key() {
    let lab = Lab::new(INSTALLER);
    let disk_key = lab.path("disk-key");
    fs::write(&disk_key, "distinctive-disk-key").unwrap();
    let script = format!(
        "set -x\n: $SSH_PRIVATE_KEY $SSHPASS\n{}",
        lab.installs("env >&2", SYSTEM)
    );
    lab.tool("nixos-anywhere", &script);
    let result = lab.run(json!({
        "debug": true,
        "extra_files": [{"path": "/etc/secret", "content": "distinctive-content"}],
        "disk_encryption_keys": [{"remote": "/tmp/k", "local": disk_key}],
    }));
    assert_eq!(result["changed"], true, "{result}");
    assert!(lab.ran().contains(" --debug "));
    let log = lab.log();
    assert!(log.contains("+ echo '### Installing NixOS ###'"), "{log}");
    let key = fs::read_to_string(lab.sshd.client_key()).unwrap();
    let key = key.lines().nth(2).unwrap();
    let progress = fs::read_to_string(lab.path("progress")).unwrap();
    for text in [log, result.to_string(), progress] {
        assert!(
            !text.contains("distinctive") && !text.contains(key),
            "{text}"
        );
    }
}

#[test]
fn an_installer_is_booted_over_another_system_where_that_is_allowed() {
    let lab = Lab::new(OTHER);
    let release = lab.sshd.path("os-release");
    let kexec = format!(
        "echo '### Switching system into kexec ###'\nprintf '{}' >{}",
        INSTALLER.replace('\n', "\\n").replace('"', "\\\""),
        release.display()
    );
    lab.tool("nixos-anywhere", &lab.installs(&kexec, SYSTEM));
    let user = lab.sshd.user.clone();
    let result = lab.run(json!({
        "allow_kexec": true, "post_kexec_port": lab.sshd.port, "kexec_extra_flags": "--no-ifdown",
    }));
    if user != "root" {
        // The login is root's after a kexec, which only root's own sshd lets in.
        assert_eq!(result["failed"], true, "{result}");
        return;
    }
    assert_eq!(
        (&result["changed"], &result["closure"]),
        (&json!(true), &json!(SYSTEM)),
        "{result}"
    );
    assert!(
        lab.ran().contains("--kexec-extra-flags --no-ifdown"),
        "{}",
        lab.ran()
    );
}

#[test]
fn the_hardware_configuration_is_written_and_returned() {
    let lab = Lab::new(INSTALLER);
    for (backend, content) in [
        ("nixos-generate-config", "{ ... }: { }"),
        ("nixos-facter", "{}"),
    ] {
        let file = lab.path(backend);
        let writes = format!("echo '{content}' >{}", file.display());
        lab.tool("nixos-anywhere", &lab.installs(&writes, SYSTEM));
        fs::remove_file(lab.path("ran")).ok();
        let result = lab.run(json!({
            "generate_hardware_config": {"backend": backend, "path": file}, "disko_deps": false,
            "substitute_on_destination": false, "use_machine_substituters": false, "print_build_logs": true,
        }));
        assert_eq!(
            result["hardware_config"],
            format!("{content}\n"),
            "{result}"
        );
        let ran = lab.ran();
        assert!(
            ran.ends_with(&format!(
                " --generate-hardware-config {backend} {} -i {}\n",
                file.display(),
                ran.trim_end().rsplit(' ').next().unwrap()
            )),
            "{ran}"
        );
        for word in [
            "--no-disko-deps",
            "--no-substitute-on-destination",
            "--no-use-machine-substituters",
            "--print-build-logs",
            "--flake /infra#web1 --build-on local --disko-mode disko",
        ] {
            assert!(ran.contains(&format!(" {word} ")), "{word}: {ran}");
        }
        // It is built by nixos-anywhere, once the file is there.
        assert!(!ran.contains("nix build"), "{ran}");
        fs::write(lab.sshd.path("os-release"), INSTALLER).unwrap();
    }
}

/// Also by `state: built`, which is the preflight of an installation, and without touching anything.
#[test]
fn mistakes_are_found_together_before_anything_is_done() {
    let lab = Lab::new(INSTALLER);
    let mistakes = json!({
        "extra_files": [{"path": "/etc/x", "src": lab.path("gone")}],
        "disk_encryption_keys": [{"remote": "/tmp/k", "local": lab.path("no-key")}],
    });
    for state in ["built", "installed"] {
        for check in [true, false] {
            let mut more = mistakes.clone();
            more["state"] = json!(state);
            more["_ansible_check_mode"] = json!(check);
            let result = lab.run(more);
            assert_eq!(result["error"]["kind"], "invalid_option", "{result}");
            let listed: Vec<&str> = result["mistakes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|mistake| mistake["option"].as_str().unwrap())
                .collect();
            assert_eq!(listed, ["extra_files", "disk_encryption_keys"], "{result}");
            assert!(text(&result, "/msg").contains("no-key"), "{result}");
        }
    }
    assert_eq!(lab.ran(), "");
    let commands = lab.sshd.commands();
    assert!(commands.lines().all(|line| line == "exec sh"), "{commands}");

    // A machine that does not answer hides no mistake, and costs no wait.
    let since = Instant::now();
    let mut more = mistakes.clone();
    more["port"] = json!(free_port());
    let result = lab.run(more);
    assert_snapshot!(failure(&result), @"
    invalid_option: 2 mistakes:
    - extra_files: /etc/x: src: [dir]/gone does not exist
    - disk_encryption_keys: local: [dir]/no-key does not exist
    ");
    assert!(since.elapsed() < Duration::from_secs(20));

    // What is installed is left alone, whatever has become of the files since.
    lab.sshd.set_os_release(INSTALLED);
    let result = lab.run(mistakes);
    assert_eq!(result["changed"], false, "{result}");
}

#[test]
fn a_host_with_a_user_is_refused_at_once() {
    let lab = Lab::new(INSTALLER);
    for state in ["probed", "installed", "built"] {
        let since = Instant::now();
        let result = lab.run(json!({"host": "root@127.0.0.1", "state": state}));
        let msg = text(&result, "/msg");
        assert!(msg.contains("user: root and host: 127.0.0.1"), "{msg}");
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(lab.sshd.commands(), "");
}

/// A link in extra_files_dir stays a link, and leads nothing out of the tree.
#[test]
fn the_controllers_own_files_are_safe_from_links() {
    let lab = Lab::new(INSTALLER);
    let (own, tree) = (lab.path("persist"), lab.path("tree"));
    fs::create_dir(&own).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(own.join("ssh_host_ed25519_key"), "the controller's own").unwrap();
    std::os::unix::fs::symlink(&own, tree.join("etc/ssh")).unwrap();
    let keeps = "while [ $# -gt 0 ]; do case $1 in --extra-files) ls -l \"$2/etc\" >&2 ;; esac; shift; done\n";
    let script = lab.installs("", SYSTEM);
    lab.tool("nixos-anywhere", &format!("(\n{keeps}\n)\n{script}"));
    let mut more = json!({
        "extra_files_dir": tree,
        "extra_files": [{"path": "/etc/ssh/ssh_host_ed25519_key", "content": "new"}],
    });
    let result = lab.run(more.clone());
    assert_snapshot!(failure(&result), @"invalid_option: extra_files: /etc/ssh/ssh_host_ed25519_key: /etc/ssh is a symbolic link to [dir]/persist in extra_files_dir; write the path that it leads to");
    more.as_object_mut().unwrap().remove("extra_files");
    let result = lab.run(more);
    assert_eq!(result["changed"], true, "{result}");
    assert!(lab.log().contains("ssh -> "), "{}", lab.log());
    let kept = fs::read_to_string(own.join("ssh_host_ed25519_key")).unwrap();
    assert_eq!(kept, "the controller's own");
    assert_eq!(entries(&own), 1);
}

/// ansible-core 2.15 to 2.18 make data of a text that is JSON.
#[test]
fn data_as_content_is_installed_as_json() {
    let lab = Lab::new(INSTALLER);
    let shows = "(\nwhile [ $# -gt 0 ]; do case $1 in --extra-files) cat \"$2\"/etc/*.json >&2 ;; esac; shift; done\n)\n";
    let script = format!("{shows}{}", lab.installs("", SYSTEM));
    lab.tool("nixos-anywhere", &script);
    let result = lab.run(json!({
        "extra_files": [
            {"path": "/etc/app.json", "content": {"listen": "0.0.0.0:80", "tls": true, "up": null}},
        ],
    }));
    assert_eq!(result["changed"], true, "{result}");
    let log = lab.log();
    let json = r#"{"listen": "0.0.0.0:80", "tls": true, "up": null}"#;
    assert!(log.contains(json), "{log}");
}

/// Process lists show the arguments of a program to everybody.
#[test]
fn settings_of_nix_are_in_no_process_list() {
    let lab = Lab::new(INSTALLER);
    let settings = lab.path("settings");
    let notes = format!(
        "printf '%s\n' \"$NIX_CONFIG\" --- >>{}\n",
        settings.display()
    );
    let nix = format!(
        "{notes}echo 'error: https://me:distinctive-2@cache' >&2\n\
         for word; do case $word in *toplevel) echo {SYSTEM} ;; *diskoScript) echo /nix/store/bbb-disko ;; esac; done"
    );
    lab.tool("nix", &nix);
    lab.tool(
        "nixos-anywhere",
        &format!("{notes}{}exit 3", lab.installs("", SYSTEM)),
    );
    let child = lab
        .command(json!({
            "nix_options": {
                "access-tokens": "github.com=distinctive-1", "bash-prompt": "#", "sandbox": false,
                "extra-substituters": ["https://a", "https://me:distinctive-2@cache"],
            },
            "_ansible_inject_invocation": true,
        }))
        .env("NIX_CONFIG", "cores = 3")
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("exit status 3"), "{text}");
    assert!(
        text.contains("invocation") && text.contains("https://a"),
        "{text}"
    );
    assert!(!text.contains("distinctive"), "{text}");
    let ran = lab.ran();
    assert!(!ran.contains("distinctive"), "{ran}");
    assert!(!ran.contains("sandbox"), "{ran}");
    assert_eq!(ran.matches("--option bash-prompt #").count(), 2, "{ran}");
    let settings = fs::read_to_string(settings).unwrap();
    let expected = "cores = 3\naccess-tokens = github.com=distinctive-1\n\
                    extra-substituters = https://a https://me:distinctive-2@cache\nsandbox = false\n\n---\n";
    assert_eq!(settings, expected.repeat(2));
}

/// The private directory holds the login key's copy and the machine's own host key.
#[test]
fn no_key_outlives_a_module_that_is_killed_at_any_moment() {
    let lab = Lab::new(INSTALLER);
    // While the disks are released: the keys are gone already.
    let waiting = lab.path("releasing");
    lab.sshd.add_command(
        "swapoff",
        &format!("#!/bin/sh\ntouch {}\nsleep 60\n", waiting.display()),
    );
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::set_permissions(tree.join("etc"), fs::Permissions::from_mode(0o555)).unwrap();
    let more = json!({
        "extra_files_dir": tree,
        "extra_files": [{"path": "/etc/ssh/ssh_host_ed25519_key", "content": "distinctive"}],
    });
    let mut module = lab.start(more.clone());
    until("the disks are released", || waiting.exists());
    let held = fs::read_dir(lab.path("tmp")).unwrap();
    let held: Vec<PathBuf> = held.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(held.len(), 1);
    assert_eq!(entries(&held[0]), 0);
    module.kill().unwrap();
    module.wait().unwrap();
    until("the directory is gone", || entries(&lab.path("tmp")) == 0);

    // Module and guard killed at once, as by a crash: the next run removes it.
    let lab = Lab::new(INSTALLER);
    lab.tool("nixos-anywhere", &stubborn(&lab));
    let mut module = lab.start(more);
    let pids = pids(&lab);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", module.id())).unwrap();
    for pid in [module.id().to_string().as_str()]
        .into_iter()
        .chain(children.split_whitespace())
        .chain(pids.iter().map(String::as_str))
    {
        let _ = Command::new("kill").args(["-KILL", pid]).status();
    }
    module.wait().unwrap();
    let left = fs::read_dir(lab.path("tmp"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert!(
        left.path()
            .join("files/etc/ssh/ssh_host_ed25519_key")
            .exists()
    );
    lab.tool("nixos-anywhere", &lab.installs("", SYSTEM));
    lab.run(json!({}));
    assert!(!left.path().exists());
}

/// It reads what ssh says on standard error, which our ssh must not keep from it.
#[test]
fn the_real_ssh_copy_id_works_with_our_ssh() {
    let lab = Lab::new(INSTALLER);
    let adds = r#"
cp "$key" "$TMPDIR/k"; ssh-keygen -y -f "$TMPDIR/k" >"$TMPDIR/k.pub"
ssh-copy-id -i "$TMPDIR/k.pub" -o IdentitiesOnly=no -o ConnectTimeout=10 -o UserKnownHostsFile=/dev/null \
  -o StrictHostKeyChecking=no -p "$port" "$host"
"#;
    lab.tool("nixos-anywhere", &lab.installs(adds, SYSTEM));
    let result = lab.run(json!({}));
    assert_eq!(result["changed"], true, "{result}");
    let log = lab.log();
    assert!(log.contains("already exist on the remote system"), "{log}");

    // With a key that the machine does not know, the probe's refusal is not a verdict yet.
    let stranger = lab.path("stranger");
    keygen(&stranger, "ed25519");
    let probes = format!(
        "cp {0} \"$TMPDIR/k\"; cp {0}.pub \"$TMPDIR/k.pub\"\n\
         for n in 1 2 3; do ssh-copy-id -n -i \"$TMPDIR/k.pub\" -p \"$port\" \"$host\"; done",
        stranger.display()
    );
    lab.tool("nixos-anywhere", &lab.installs(&probes, SYSTEM));
    let result = lab.run(json!({}));
    assert_eq!(result["changed"], true, "{result}");
    assert!(lab.log().contains("Would have added"), "{}", lab.log());
}

#[test]
fn phases_on_their_own_say_what_they_did() {
    let lab = Lab::new(INSTALLER);
    let result = lab.run(json!({"phases": ["disko"]}));
    let msg = text(&result, "/msg");
    assert!(msg.starts_with("formatted the disks of 127.0.0.1"), "{msg}");
    assert_eq!(
        (&result["changed"], &result["released"], &result["closure"]),
        (&json!(true), &json!(false), &Value::Null),
        "{result}"
    );
    // What is mounted is left for the phase install.
    assert!(!lab.sshd.path("released").exists());

    // Which is refused where nothing is mounted, in a check too.
    fs::remove_file(lab.path("ran")).unwrap();
    lab.sshd.add_command("mountpoint", "#!/bin/sh\nexit 32\n");
    for check in [true, false] {
        let result = lab.run(json!({"phases": ["install"], "_ansible_check_mode": check}));
        assert_eq!(result["error"]["kind"], "refused", "{result}");
        assert!(text(&result, "/msg").contains("/mnt"), "{result}");
    }
    assert_eq!(lab.ran(), "");
    lab.sshd.add_command("mountpoint", "#!/bin/sh\n");
    let result = lab.run(json!({"phases": ["install"]}));
    assert!(
        text(&result, "/msg").starts_with("installed on"),
        "{result}"
    );
    assert_eq!(result["released"], true, "{result}");
}

/// nixos-install goes on when the controller that started it was killed.
#[test]
fn an_installation_that_still_runs_is_waited_for() {
    let lab = Lab::new(INSTALLER);
    let busy = lab.path("busy");
    fs::write(&busy, "").unwrap();
    lab.sshd.add_command(
        "pgrep",
        &format!("#!/bin/sh\n[ -e {} ] && echo 1\n", busy.display()),
    );
    let mut module = lab.start(json!({}));
    lab.waits("another installation still runs on it");
    assert_eq!(lab.ran(), "");
    fs::remove_file(&busy).unwrap();
    assert!(module.wait().unwrap().success());
    assert!(lab.ran().contains("nixos-anywhere"));

    fs::write(&busy, "").unwrap();
    let result = lab.run(json!({"timeout": 15}));
    assert_snapshot!(failure(&result), @"
    busy: another installation runs on 127.0.0.1 port [port] (processes 1); nothing was done to it
      wait until it has ended; if it hangs, restart the machine from its installer
    ");
    fs::remove_file(&busy).unwrap();

    // The real pgrep finds it by its command, and nothing that only names it.
    fs::remove_file(lab.sshd.path("bin/pgrep")).unwrap();
    let install = lab.path("nixos-install");
    executable(&install, "#!/bin/sh\nsleep 4\n:\n");
    let mut running = Command::new(&install).arg("--system").spawn().unwrap();
    let mut naming = Command::new("sh")
        .args(["-c", "read -r _; :", "sh", "nixos-install --system"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let result = lab.run(json!({}));
    assert_eq!(result["changed"], true, "{result}");
    assert!(running.try_wait().unwrap().is_some());
    naming.kill().unwrap();
    naming.wait().unwrap();
}

#[test]
fn an_owner_that_the_installer_does_not_know_is_found_before() {
    let lab = Lab::new(INSTALLER);
    let owned =
        |owner: &str| json!({"extra_files": [{"path": "/etc/x", "content": "x", "owner": owner}]});
    let result = lab.run(owned("no-such-user:no-such-group"));
    assert_snapshot!(failure(&result), @"
    invalid_option: extra_files: the installer on 127.0.0.1 port [port] does not know the user no-such-user, group no-such-group; nothing was done to it
      give the owner in numbers, as UID:GID, that it has on the installed system
    ");
    assert_eq!(lab.ran(), "");
    for owner in ["root:root", "1000:100", "root"] {
        assert_eq!(lab.run(owned(owner))["changed"], true);
    }
}

#[test]
fn a_nix_that_is_too_old_is_named() {
    let lab = Lab::new(INSTALLER);
    executable(
        &lab.path("tools/nix"),
        "#!/bin/sh\necho 'nix (Nix) 2.8.0'\n",
    );
    for state in ["built", "installed"] {
        let result = lab.run(json!({"state": state}));
        assert_eq!(result["error"]["kind"], "tool_missing", "{result}");
        let msg = text(&result, "/msg");
        assert!(msg.contains("is nix 2.8, but 2.20"), "{msg}");
    }
    // What is built already needs no newer one.
    let paths = json!({"disko": "/", "system": "/"});
    let result = lab.run(json!({"flake": null, "store_paths": paths}));
    assert_ne!(result["error"]["kind"], "tool_missing", "{result}");
}

/// The options that lead through a jump host.
fn through(hop: &Sshd) -> Value {
    json!({
        "jump_host": hop.as_jump_host(),
        "jump_host_keys": [hop.host_key("ed25519")],
        "jump_host_private_key_file": hop.client_key(),
    })
}

/// How often the guest was connected to, beside the look whether it is up.
fn connections(guest: &Sshd) -> usize {
    guest.log().matches("Connection from ").count() - 1
}

#[test]
fn everything_goes_through_the_jump_host() {
    let (lab, hop) = (Lab::new(INSTALLER), Sshd::jump_host(""));
    let result = lab.run(through(&hop));
    assert_snapshot!(shown(&result, "changed closure released"), @r#"
    changed: true
    closure: /nix/store/aaa-nixos-system-web1
    released: true
    "#);
    // Looking, each ssh of nixos-anywhere, and verifying.
    let through_hop = hop.forwarded();
    assert!(through_hop >= 5, "{through_hop}");
    assert_eq!(connections(&lab.sshd), through_hop);
    let guests_key = fs::read_to_string(lab.sshd.path("client.pub")).unwrap();
    let guests_key: guest_ssh::PublicKey = guests_key.parse().unwrap();
    assert!(!hop.log().contains(&guests_key.fingerprint()));

    // By its other name.
    lab.sshd.set_os_release(INSTALLED);
    let mut more = through(&hop);
    more["ssh_options"] = json!({"ProxyJump": more["jump_host"]});
    more["jump_host"] = Value::Null;
    let result = lab.run(more);
    assert_snapshot!(shown(&result, "changed msg"), @r#"
    changed: false
    msg: 127.0.0.1 port [port] is installed already
    "#);
    assert_eq!(hop.forwarded(), through_hop + 1);
    assert_eq!(connections(&lab.sshd), through_hop + 1);
}

#[test]
fn a_jump_host_that_is_another_host_gets_nothing() {
    let (lab, hop) = (Lab::new(INSTALLER), Sshd::jump_host(""));
    let mut more = through(&hop);
    more["jump_host_keys"] = json!([lab.sshd.host_key("ed25519")]);
    let result = lab.run(more.clone());
    assert_eq!(result["error"]["kind"], "host_key", "{result}");
    let msg = text(&result, "/msg");
    assert!(
        msg.contains(&format!(
            "jump host {}: offers another host key",
            hop.as_jump_host()
        )),
        "{msg}"
    );
    assert!(
        text(&result, "/error/hint").contains("jump_host_keys"),
        "{result}"
    );
    more.as_object_mut().unwrap().remove("jump_host_keys");
    let result = lab.run(more);
    assert!(
        text(&result, "/msg").contains("its host key is not known"),
        "{result}"
    );
    assert_eq!(connections(&lab.sshd), 0);
    assert!(!hop.log().contains("userauth"), "{}", hop.log());
    assert_eq!(lab.ran(), "");
}

/// nixos-anywhere would try for ever.
#[test]
fn a_jump_host_that_changes_its_mind_ends_the_installation() {
    for (change, kind, reason) in [
        (
            "rm \"$hop/authorized_keys\"",
            "authentication",
            "refused the login",
        ),
        (
            "sed -i 's/^/restrict /' \"$hop/authorized_keys\"",
            "permission_denied",
            "refuses to connect to 127.0.0.1 port",
        ),
    ] {
        let (lab, hop) = (Lab::new(INSTALLER), Sshd::jump_host(""));
        let change = format!(
            "hop={}\n{change}",
            hop.path("x").parent().unwrap().display()
        );
        let script = lab.installs("", SYSTEM);
        let before = "echo '### Uploading install SSH keys ###'";
        lab.tool(
            "nixos-anywhere",
            &script.replace(before, &format!("{before}\n{change}")),
        );
        let result = lab.run(through(&hop));
        assert_eq!(result["error"]["kind"], kind, "{result}");
        let msg = text(&result, "/msg");
        assert!(
            msg.contains(&format!("jump host {}: {reason}", hop.as_jump_host())),
            "{msg}"
        );
        assert_eq!(result["changed"], false);
    }
}
