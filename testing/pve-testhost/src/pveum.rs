//! Commands of `pveum` that grant something, as users type them, carried out on `access.json`.

use std::path::Path;

use serde_json::{Value, json};

/// Carry out the `pveum role add` and `pveum acl modify` lines in `text` on the test host whose data
/// directory is `dir`, for the token `provisioner@pve!empty`, whatever user and token they name;
/// `pve1` is the test host's node. Other lines are passed over.
///
/// # Errors
/// When the access file cannot be used, or such a line is not understood.
pub fn grant(dir: &Path, node: &str, text: &str) -> std::io::Result<()> {
    let path = dir.join("access.json");
    let mut access: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    for line in text.lines() {
        let odd = || std::io::Error::other(format!("not understood: {line}"));
        if let Some(rest) = line.strip_prefix("pveum role add ") {
            let (role, rest) = rest.split_once(" --privs \"").ok_or_else(odd)?;
            let privileges: Vec<&str> = rest.trim_end_matches('"').split(' ').collect();
            access["roles"][role] = json!(privileges);
        } else if let Some(rest) = line.strip_prefix("pveum acl modify ") {
            let mut words = rest.split(' ');
            let place = words.next().ok_or_else(odd)?;
            let role = words.nth(1).ok_or_else(odd)?;
            let place = place.replace("/nodes/pve1", &format!("/nodes/{node}"));
            let propagate = !rest.ends_with(" --propagate 0");
            for ugid in ["provisioner@pve", "provisioner@pve!empty"] {
                access["acl"].as_array_mut().ok_or_else(odd)?.push(
                    json!({"path": place, "ugid": ugid, "role": role, "propagate": propagate}),
                );
            }
        }
    }
    // Renamed into place: the host may read it at any moment.
    let new = path.with_extension("new");
    std::fs::write(&new, access.to_string())?;
    std::fs::rename(new, path)
}

/// The sections of a Markdown text that stand under these headings, without their subsections.
///
/// # Panics
/// When a heading is missing.
pub fn sections(text: &str, headings: &[&str]) -> String {
    let section = |heading: &&str| {
        let start = text
            .find(&format!("\n{heading}\n"))
            .unwrap_or_else(|| panic!("no heading {heading}"));
        let rest = &text[start + 1 + heading.len()..];
        rest[..rest.find("\n#").unwrap_or(rest.len())].to_owned()
    };
    headings.iter().map(section).collect()
}
