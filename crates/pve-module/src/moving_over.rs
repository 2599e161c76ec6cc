//! What becomes of the options of a module of `community.proxmox`, for playbooks that move over from it.

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has the same name and takes the same values.
    Kept,
    /// It has the same name, but not all of its values mean the same: how.
    Differs(&'static str),
    /// It does not exist: what takes its place.
    Instead(&'static str),
}

impl Fate {
    /// What takes the place of an option that the other module has and this one does not.
    pub fn instead(options: &[(&str, Self)], option: &str) -> Option<&'static str> {
        match options.iter().find(|(name, _)| *name == option) {
            Some((_, Self::Instead(what))) => Some(what),
            _ => None,
        }
    }

    /// The option's row in the tables of `docs/moving-over.md`.
    pub fn row(self, name: &str) -> String {
        match self {
            Self::Kept => format!("| `{name}` | `{name}` | |"),
            Self::Differs(how) => format!("| `{name}` | `{name}` | {how} |"),
            Self::Instead(what) => format!("| `{name}` | | {what} |"),
        }
    }
}
