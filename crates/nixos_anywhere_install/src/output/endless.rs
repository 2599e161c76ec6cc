//! Texts by which an installation is known to fail for ever: ssh's, while nixos-anywhere adds its key, and nixos-install's.

use crate::output::channel::Verdict;

/// What ssh's own words mean while nixos-anywhere adds its key, for ever if that does not work.
pub(crate) struct Words {
    pub(crate) verdict: Verdict,
    /// How often they may be seen before that is sure.
    pub(crate) times: u32,
    pub(crate) reason: &'static str,
    pub(crate) hint: &'static str,
}

const WENT_AWAY: &str = "it went away after it had answered: look at its console";

/// How often a jump host may fail to reach the machine while nixos-anywhere adds its key.
pub(crate) const JUMP_TIMES: u32 = 5;

pub(crate) const WORDS: [Words; 7] = [
    Words {
        verdict: Verdict::Denied,
        times: 3,
        reason: "the machine refuses the login",
        hint: "check user and private_key_file; root must be allowed to log in with a key, unless \
               kexec is among the phases and the user has sudo without a password",
    },
    Words {
        verdict: Verdict::Refused,
        times: 5,
        reason: "the machine refuses connections",
        hint: "its SSH server went away after it had answered: look at its console",
    },
    Words {
        verdict: Verdict::NoAnswer,
        times: 3,
        reason: "the machine does not answer",
        hint: WENT_AWAY,
    },
    Words {
        verdict: Verdict::NoRoute,
        times: 5,
        reason: "there is no way to the machine",
        hint: WENT_AWAY,
    },
    Words {
        verdict: Verdict::NoName,
        times: 3,
        reason: "the machine's name has no address",
        hint: "check host",
    },
    Words {
        verdict: Verdict::Closed,
        times: 5,
        reason: "the machine closes connections before a login",
        hint: "its SSH server may be punishing failed logins (PerSourcePenalties); wait and try again",
    },
    Words {
        verdict: Verdict::TooManyKeys,
        times: 2,
        reason: "the machine refuses the login after too many keys",
        hint: "give private_key_file instead of an agent with many keys",
    },
];

/// What nixos-install says when the bootloader was not installed. nixos-anywhere does not look at
/// these, and would reboot into nothing.
pub(crate) const BOOTLOADER: [(&str, &str); 3] = [
    (
        "Failed to install bootloader",
        "the bootloader could not be installed",
    ),
    ("installation of GRUB", "GRUB could not be installed"),
    ("grub-install: error:", "GRUB could not be installed"),
];
