//! Task identifiers: `UPID:node:PID8:PSTART8:STARTTIME8:type:id:user:`.

use std::fmt;
use std::str::FromStr;

/// No identifier of PVE's is longer: the longest parts are the node (63 bytes) and the user (64, and a token's name).
const LONGEST: usize = 1024;

/// The identifier of a task, kept as PVE wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upid {
    text: String,
    /// Node that runs the task.
    pub node: String,
    /// Seconds since 1970 at which it started.
    pub start_time: u64,
    /// Kind of task, such as `qmcreate` or `imgcopy`.
    pub kind: String,
    /// What it works on (a VMID mostly); may be empty.
    pub id: String,
    /// Who started it: `user@realm` or `user@realm!token`.
    pub user: String,
}

/// A text that is not a UPID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a task identifier (UPID)")]
pub struct InvalidUpid(String);

impl FromStr for Upid {
    type Err = InvalidUpid;

    fn from_str(text: &str) -> Result<Self, InvalidUpid> {
        let invalid = || InvalidUpid(text.to_string());
        if text.len() > LONGEST {
            return Err(invalid());
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [head, node, pid, pstart, start, kind, id, user, tail] = parts.as_slice() else {
            return Err(invalid());
        };
        let hex = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
        if *head != "UPID"
            || node.is_empty()
            || kind.is_empty()
            || !tail.is_empty()
            || !hex(pid)
            || !hex(pstart)
        {
            return Err(invalid());
        }
        Ok(Self {
            text: text.to_string(),
            node: (*node).to_string(),
            start_time: u64::from_str_radix(start, 16).map_err(|_| invalid())?,
            kind: (*kind).to_string(),
            id: (*id).to_string(),
            user: (*user).to_string(),
        })
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for Upid {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl serde::Serialize for Upid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_apart_and_keeps_the_text() {
        let text = "UPID:pve:0000556F:000535B1:6B02F7CE:qmshutdown:190:root@pam!full:";
        let upid: Upid = text.parse().unwrap();
        assert_eq!(
            (upid.node.as_str(), upid.kind.as_str(), upid.id.as_str()),
            ("pve", "qmshutdown", "190")
        );
        assert_eq!(upid.user, "root@pam!full");
        assert_eq!(upid.start_time, 0x6B02F7CE);
        assert_eq!(upid.to_string(), text);
        assert_eq!(
            "UPID:pve:1:2:3:imgcopy::u@pve:".parse::<Upid>().unwrap().id,
            ""
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "OK",
            "UPID:pve:x",
            "UPID:pve:1:2:zz:qmstart:1:u:",
            "UPID:pve:1:2:3:qmstart:1:u:x",
        ] {
            assert!(text.parse::<Upid>().is_err(), "{text}");
        }
    }
}
