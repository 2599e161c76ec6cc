//! What a module's author writes about it, beyond its options.

/// The texts of a module's documentation. Ansible markup (`V(x)`, `O(x)`, `C(x)`, `M(x)`, `B(x)`)
/// is allowed wherever prose is.
#[derive(Clone, Debug, Default)]
pub struct Documentation {
    /// One line, without a full stop.
    pub short_description: &'static str,
    /// Paragraphs.
    pub description: &'static [&'static str],
    /// Notes, one a paragraph.
    pub notes: &'static [&'static str],
    /// Requirements of the machine that runs the module, one a line.
    pub requirements: &'static [&'static str],
    /// Related modules: their names.
    pub seealso: &'static [&'static str],
    /// Example tasks, as YAML text.
    pub examples: &'static str,
    /// The returned values, as YAML text in the form of Ansible's RETURN block:
    /// a mapping of names to `{description, returned, type, sample, contains}`.
    pub returns: &'static str,
    /// Values that other modules return, too, each in the same form.
    pub shared_returns: &'static [&'static str],
}
