//! How long a secret must be to be masked, and where.

/// What Ansible shows instead of a value that is a secret as a whole.
pub(super) const WHOLE: &str = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER";
/// What Ansible shows instead of a secret within a text.
pub(super) const PART: &str = "********";
/// A shorter secret is not masked in texts: there would be nothing left to read (ansible-core 2.22).
pub(super) const SHORTEST: usize = 4;
/// A shorter secret is masked only where it is a word of its own (ansible-core 2.22).
pub(super) const LONG: usize = 7;
/// Below this length other spellings of a secret, its lines, and the short words of a secret
/// document are not looked for.
pub(super) const SPELT: usize = 6;

/// Where a secret is masked. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// In texts, where it is a word of its own.
    Word,
    /// In texts, within other words too.
    Text,
    /// In the module's return values too.
    Values,
}
