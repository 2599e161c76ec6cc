//! A built module, run as Ansible runs it.

use std::ops::Deref;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};

use crate::{Host, failure, with};

/// A test host, and a module that is run against it.
pub struct Lab {
    host: Host,
    module: &'static str,
    /// Whose token the module uses; see [`Host::connection`].
    token: Option<&'static str>,
    /// Options of every run.
    usual: Value,
    /// What no answer may have in it.
    secret: Option<&'static str>,
}

impl Deref for Lab {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Lab {
    /// A lab for the program `module`: `env!("CARGO_BIN_EXE_NAME")` of the test's own crate. It uses root's token.
    pub fn new(host: Host, module: &'static str) -> Self {
        Self {
            host,
            module,
            token: None,
            usual: json!({}),
            secret: None,
        }
    }

    /// The same lab whose module uses another token: `provisioner` or `empty`.
    pub fn called_by(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }

    /// The same lab whose module uses a token that has what these `pveum` commands grant, and nothing else.
    pub fn granted(self, commands: &str) -> Self {
        self.grant(commands);
        self.called_by("empty")
    }

    /// The same lab, whose module has these options in every run that gives no others.
    pub fn usually(mut self, options: Value) -> Self {
        self.usual = options;
        self
    }

    /// The same lab, in which a module's answer must never have this in it.
    pub fn keeping(mut self, secret: &'static str) -> Self {
        self.secret = Some(secret);
        self
    }

    /// The module as a command that has not been started: with these options besides the connection's, of which null
    /// leaves one out, in a file, and with a `HOME` and `XDG_RUNTIME_DIR` of its own. Ansible's `_ansible_diff` is on.
    pub fn command(&self, options: Value) -> Command {
        let ansible = json!({"_ansible_check_mode": false, "_ansible_diff": true});
        let connection = self.connection(self.token);
        let usual = with(with(connection.clone(), ansible), self.usual.clone());
        let mut arguments = with(usual, options);
        let given = arguments.as_object_mut().unwrap();
        given.retain(|key, value| !value.is_null() || connection.get(key).is_none());
        let (_, file) = tempfile::NamedTempFile::new_in(self.path(""))
            .unwrap()
            .keep()
            .unwrap();
        std::fs::write(&file, arguments.to_string()).unwrap();
        let mut command = Command::new(self.module);
        command
            .arg(file)
            .env("XDG_RUNTIME_DIR", self.path(""))
            .env("HOME", self.path(""))
            .env_remove("XDG_CACHE_HOME")
            .env_remove("GITHUB_TOKEN");
        command
    }

    /// Start the module; what it says is kept for [`Lab::ended`].
    pub fn start(&self, options: Value) -> Child {
        let mut command = self.command(options);
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// What a started module said in the end.
    #[track_caller]
    pub fn ended(&self, child: Child) -> Value {
        self.answer(child.wait_with_output().unwrap())
    }

    /// What the module said, which has no secret of the host in it, and agrees with how it ended.
    #[track_caller]
    pub fn answer(&self, output: Output) -> Value {
        let text = String::from_utf8(output.stdout).unwrap();
        let result: Value = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
        let failed = result["failed"] == json!(true);
        assert_eq!(output.status.success(), !failed, "{result:#}");
        let owners = [
            &self.endpoint,
            &self.endpoint["provisioner"],
            &self.endpoint["empty"],
        ];
        let tokens = owners.map(|owner| owner["api_token_secret"].as_str().unwrap());
        for secret in tokens.into_iter().chain(self.secret) {
            assert!(!text.contains(secret), "{text}");
        }
        result
    }

    /// Run the module.
    pub fn run(&self, options: Value) -> Value {
        self.answer(self.command(options).output().unwrap())
    }

    /// Run the module and expect it to succeed.
    #[track_caller]
    pub fn ok(&self, options: Value) -> Value {
        let result = self.run(options);
        assert_ne!(result["failed"], json!(true), "{result:#}");
        result
    }

    /// Run the module so many times, `forks` of them at once, and expect each to succeed.
    pub fn many(&self, times: usize, forks: usize, options: &Value) -> Vec<Value> {
        let left = AtomicUsize::new(times);
        let take = || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let worker = || {
            let runs = std::iter::from_fn(|| take().ok().map(|_| self.ok(options.clone())));
            runs.collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..forks).map(|_| scope.spawn(worker)).collect();
            let ended = workers.into_iter().map(|worker| worker.join().unwrap());
            ended.flatten().collect()
        })
    }

    /// Run the module and expect it to fail.
    #[track_caller]
    pub fn fails(&self, options: Value) -> Value {
        let result = self.run(options);
        assert_eq!(result["failed"], json!(true), "{result:#}");
        result
    }

    /// Run the module and expect it to fail without a write: its [`failure`].
    #[track_caller]
    pub fn refuses(&self, options: Value) -> String {
        let writes = self.writes();
        let failed = self.fails(options);
        assert_eq!(self.writes(), writes, "a refusal writes nothing");
        failure(&failed)
    }

    /// [`Self::refuses`] for each of these options besides `usual`. A text that comes several times in a row is there once.
    #[track_caller]
    pub fn refuses_each(&self, usual: &Value, cases: impl IntoIterator<Item = Value>) -> String {
        let mut texts: Vec<(String, usize)> = Vec::new();
        for more in cases {
            let text = self.refuses(with(usual.clone(), more));
            match texts.last_mut() {
                Some((last, times)) if *last == text => *times += 1,
                _ => texts.push((text, 1)),
            }
        }
        let lines = texts.into_iter().map(|(text, times)| match times {
            1 => text,
            times => format!("{times} times {text}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Run the module and expect it to succeed and change something.
    #[track_caller]
    pub fn changed(&self, options: Value) -> Value {
        let result = self.ok(options);
        assert_eq!(result["changed"], json!(true), "{result:#}");
        result
    }

    /// Run the module and expect it to succeed and change nothing. The host must have no other client meanwhile.
    #[track_caller]
    pub fn unchanged(&self, options: Value) -> Value {
        let writes = self.writes();
        let result = self.ok(options);
        assert_eq!(result["changed"], json!(false), "{result:#}");
        assert_eq!(self.writes(), writes, "no write without a change");
        result
    }

    /// Run the module in check mode and expect it to succeed.
    #[track_caller]
    pub fn check(&self, options: Value) -> Value {
        self.ok(with(options, json!({"_ansible_check_mode": true})))
    }

    /// [`Self::check_alone`], and expect it to find a change.
    #[track_caller]
    pub fn would_change(&self, options: Value) -> Value {
        let result = self.check_alone(options);
        assert_eq!(result["changed"], json!(true), "{result:#}");
        result
    }

    /// [`Self::check`], and expect it to write nothing. The host must have no other client meanwhile.
    #[track_caller]
    pub fn check_alone(&self, options: Value) -> Value {
        let writes = self.writes();
        let result = self.check(options);
        assert_eq!(self.writes(), writes, "a check writes nothing");
        result
    }
}
