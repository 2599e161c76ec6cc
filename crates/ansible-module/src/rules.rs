//! Rules between options.

/// A rule between the options of one level, with Ansible's meaning and wording.
#[derive(Clone, Debug)]
pub enum Rule {
    /// At most one of these may be given.
    MutuallyExclusive(&'static [&'static str]),
    /// At least one of these must be given.
    RequiredOneOf(&'static [&'static str]),
    /// All of these, or none.
    RequiredTogether(&'static [&'static str]),
    /// When `option` has `value`, these are needed: all, or one of them.
    RequiredIf {
        /// The option that decides.
        option: &'static str,
        /// Its value as text, as a user writes it; booleans are `True` and `False`.
        value: &'static str,
        /// The options that are needed then.
        options: &'static [&'static str],
        /// Whether one of them is enough.
        one_is_enough: bool,
    },
    /// When `option` is given, all of `needs` must be.
    RequiredBy {
        /// The option that decides.
        option: &'static str,
        /// The options that it needs.
        needs: &'static [&'static str],
    },
}
