//! The kinds of problems at a jump host.

/// What went wrong at a jump host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JumpProblem {
    /// `ssh` cannot be run.
    Program,
    /// It has no address, or nothing answers there.
    Unreachable,
    /// It does not let us in within the time.
    Silent,
    /// Its host key is not known.
    HostKey,
    /// Its host key is another than the known one, or a revoked one.
    AnotherHostKey,
    /// It refuses the login.
    Login,
    /// It refuses to connect us on.
    Forwarding,
    /// It cannot reach what comes next.
    Beyond,
    /// Its connection ended for another reason.
    Failed,
}

impl JumpProblem {
    /// Whether waiting does not help.
    pub fn is_final(self) -> bool {
        match self {
            Self::Program
            | Self::HostKey
            | Self::AnotherHostKey
            | Self::Login
            | Self::Forwarding => true,
            Self::Unreachable | Self::Silent | Self::Beyond | Self::Failed => false,
        }
    }
}
