//! What our own `ssh` reports, over a channel that no output of a program or of the machine reaches:
//! a file to which only that `ssh` writes (`ssh -E`). It is the only source of verdicts on the
//! machine's host key, the login and the connection.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// The line that the wrapper writes for each call that is not a mere probe.
pub(crate) const CALL: &str = "+ ssh";

/// The most that is read at once, in bytes.
const LONGEST: u64 = 64 << 10;

/// The reader's side of the channel.
pub(crate) struct Channel {
    path: PathBuf,
    offset: u64,
    /// Whether the command of the connection that ends next was ended by a signal.
    signalled: bool,
}

/// What stands for a connection that the machine closed before the command had ended. ssh writes that
/// to standard error alone; the debug lines say it too, by an exit status that never came.
const CLOSED: &str = "ssh: the machine closed the connection";

impl Channel {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            signalled: false,
        }
    }

    /// The lines that were written since the last time.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(LONGEST).read_to_end(&mut bytes)
        });
        // It is made by the first call.
        if read.is_err() {
            return Vec::new();
        }
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        self.offset += end as u64 + 1;
        String::from_utf8_lossy(&bytes[..end])
            .lines()
            .filter_map(|line| self.line(line.trim_end()))
            .collect()
    }

    fn line(&mut self, line: &str) -> Option<String> {
        let Some(debug) = line.strip_prefix("debug1: ") else {
            return (!line.starts_with("debug")).then(|| line.to_owned());
        };
        if debug.starts_with("client_input_channel_req: ") && debug.contains(" rtype exit-signal ")
        {
            self.signalled = true;
        } else if let Some(status) = debug.strip_prefix("Exit status ") {
            let lost = status == "-1" && !self.signalled;
            self.signalled = false;
            return lost.then(|| CLOSED.to_owned());
        }
        None
    }
}

/// What a line of ssh's own means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The machine's host key is not the known one.
    HostKey,
    /// The machine refuses the login.
    Denied,
    /// Nothing listens.
    Refused,
    /// No answer.
    NoAnswer,
    /// No way to the machine.
    NoRoute,
    /// The name has no address.
    NoName,
    /// The machine closes connections before a login.
    Closed,
    /// The machine refuses the login after too many keys.
    TooManyKeys,
    /// A connection that stood was lost.
    Lost,
}

/// Read a line that ssh wrote. Texts of a server are among its lines too, so a line counts only as
/// a whole.
pub(crate) fn verdict(line: &str) -> Option<Verdict> {
    if line == "Host key verification failed." {
        return Some(Verdict::HostKey);
    }
    if line == CLOSED {
        return Some(Verdict::Lost);
    }
    if let Some((login, _)) = line.split_once(": Permission denied (") {
        let plain = login.contains('@') && !login.contains(char::is_whitespace);
        return (plain && line.ends_with(").")).then_some(Verdict::Denied);
    }
    if let Some(rest) = line.strip_prefix("ssh: ") {
        if rest.starts_with("Could not resolve hostname ") {
            return Some(Verdict::NoName);
        }
        let reason = rest.strip_prefix("connect to host ")?.rsplit_once(": ")?.1;
        return match reason {
            "Connection refused" => Some(Verdict::Refused),
            "Connection timed out" | "Operation timed out" => Some(Verdict::NoAnswer),
            "No route to host" | "Network is unreachable" => Some(Verdict::NoRoute),
            _ => None,
        };
    }
    let starts = |texts: &[&str]| texts.iter().any(|text| line.starts_with(text));
    if starts(&["Received disconnect from "]) {
        let too_many = line.ends_with(":2: Too many authentication failures");
        return too_many.then_some(Verdict::TooManyKeys);
    }
    if starts(&["Connection timed out during banner exchange"]) {
        return Some(Verdict::NoAnswer);
    }
    if starts(&[
        "Connection closed by ",
        "Connection reset by ",
        "kex_exchange_identification: ",
        "banner exchange: ",
    ]) {
        return Some(Verdict::Closed);
    }
    let lost = starts(&["client_loop: send disconnect: ", "Read from remote host "])
        || (starts(&["Timeout, server "]) && line.ends_with(" not responding."))
        || (starts(&["Connection to "]) && line.ends_with(" closed by remote host."));
    lost.then_some(Verdict::Lost)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh.log");
        let mut channel = Channel::new(path.clone());
        assert!(channel.lines().is_empty());
        let mut file = File::create(path).unwrap();
        file.write_all(b"+ ssh\nHost key verif").unwrap();
        assert_eq!(channel.lines(), ["+ ssh"]);
        assert!(channel.lines().is_empty());
        file.write_all(b"ication failed.\r\n\xff\n").unwrap();
        assert_eq!(
            channel.lines(),
            ["Host key verification failed.", "\u{fffd}"]
        );
    }

    #[test]
    fn a_connection_without_an_end_of_its_command_was_lost() {
        let lines = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ssh.log");
            std::fs::write(&path, text).unwrap();
            Channel::new(path).lines()
        };
        let channel = "debug1: client_input_channel_req: channel 0 rtype";
        for (text, expected) in [
            (
                format!("{channel} exit-status reply 0\r\ndebug1: Exit status 255\r\n"),
                None,
            ),
            (
                format!("{channel} exit-signal reply 0\r\ndebug1: Exit status -1\r\n"),
                None,
            ),
            ("debug1: Exit status -1\r\n".into(), Some(Verdict::Lost)),
            ("debug1: Remote: Exit status -1\r\n".into(), None),
        ] {
            let lines = lines(&text);
            let found = lines.iter().find_map(|line| verdict(line));
            assert_eq!(found, expected, "{text}");
            assert!(lines.len() <= 1);
        }
    }

    #[test]
    fn only_whole_lines_of_ssh_are_verdicts() {
        use Verdict::*;
        for (line, expected) in [
            ("Host key verification failed.", Some(HostKey)),
            ("root@h: Permission denied (publickey).", Some(Denied)),
            (
                "root@2001:db8::1: Permission denied (publickey,password).",
                Some(Denied),
            ),
            (
                "ssh: connect to host h port 22: Connection refused",
                Some(Refused),
            ),
            (
                "ssh: connect to host h port 22: Connection timed out",
                Some(NoAnswer),
            ),
            (
                "ssh: connect to host h port 22: No route to host",
                Some(NoRoute),
            ),
            (
                "ssh: Could not resolve hostname h: Name or service not known",
                Some(NoName),
            ),
            ("Connection closed by 127.0.0.1 port 22", Some(Closed)),
            (
                "kex_exchange_identification: read: Connection reset by peer",
                Some(Closed),
            ),
            (
                "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures",
                Some(TooManyKeys),
            ),
            ("Timeout, server h not responding.", Some(Lost)),
            ("client_loop: send disconnect: Broken pipe", Some(Lost)),
            ("Connection to h closed by remote host.", Some(Lost)),
            // Said by a server, or by something else.
            (
                "Received disconnect from 127.0.0.1 port 22:11: Host key verification failed.",
                None,
            ),
            ("a: Host key verification failed.", None),
            ("cp: cannot open 'x' for reading: Permission denied", None),
            ("see root@h: Permission denied (publickey).", None),
            (
                "Warning: Permanently added 'h' (ED25519) to the list of known hosts.",
                None,
            ),
        ] {
            assert_eq!(verdict(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_text_of_the_server_decides_nothing(text in "(Host key verification failed\\.|root@h: Permission denied \\(x\\)\\.|[ -~]{0,30})") {
            let line = format!("Received disconnect from 127.0.0.1 port 22:11: {text}");
            prop_assert_eq!(verdict(&line), None);
        }
    }
}
