//! Password hashes as `/etc/shadow` holds them (crypt(5)).

/// A scheme of crypt(3).
struct Scheme {
    prefix: &'static str,
    /// The length of the hash itself, which is the last part.
    hash: usize,
}

/// What libxcrypt, which NixOS, Debian, Fedora and SUSE have, verifies.
const SCHEMES: [Scheme; 9] = [
    Scheme {
        prefix: "$1$",
        hash: 22,
    },
    Scheme {
        prefix: "$5$",
        hash: 43,
    },
    Scheme {
        prefix: "$6$",
        hash: 86,
    },
    Scheme {
        prefix: "$2a$",
        hash: 53,
    },
    Scheme {
        prefix: "$2b$",
        hash: 53,
    },
    Scheme {
        prefix: "$2y$",
        hash: 53,
    },
    Scheme {
        prefix: "$y$",
        hash: 43,
    },
    Scheme {
        prefix: "$gy$",
        hash: 43,
    },
    Scheme {
        prefix: "$7$",
        hash: 43,
    },
];

/// What hashes begin with, by crypt(5) and by the libraries of web applications.
const SCHEME_NAMES: [&str; 14] = [
    "1", "2a", "2b", "2x", "2y", "3", "5", "6", "7", "y", "gy", "sha1", "md5", "sm3",
];
const SCHEME_FAMILIES: [&str; 4] = ["argon2", "bcrypt", "pbkdf2", "scrypt"];

/// Whether a text is meant to be a hash of some kind. Nobody's password begins like one.
pub fn looks_hashed(text: &str) -> bool {
    let bare = bare_hash(text);
    let Some((name, rest)) = bare.strip_prefix('$').and_then(|text| text.split_once('$')) else {
        return false;
    };
    let name = name.split(',').next().unwrap_or_default();
    rest.contains('$')
        && (SCHEME_NAMES.contains(&name)
            || SCHEME_FAMILIES
                .iter()
                .any(|family| name.starts_with(family)))
}

/// A hash without what shells, templates and files put around it: blanks, quotation marks, doubled and escaped `$`, and the
/// `!` of a locked account.
pub fn bare_hash(text: &str) -> String {
    let text = text.trim().trim_matches(['"', '\'']).trim();
    let text = text.trim_start_matches('!');
    match text.starts_with("$$") || text.starts_with("\\$") {
        true => text.replace("\\$", "$").replace("$$", "$"),
        false => text.to_owned(),
    }
}

/// Checks a hash for `/etc/shadow`. An empty one, and one that begins with `!` or `*`, lock or open an account on purpose.
///
/// # Errors
/// Why no password would be accepted with it.
pub fn check_hash(text: &str) -> Result<(), &'static str> {
    let hash = text.trim_start_matches('!');
    if hash.is_empty() || hash.starts_with('*') || hash == "x" {
        return Ok(());
    }
    if hash.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
        return Err("is not a password hash (it has blanks or colons); make one with `mkpasswd`");
    }
    let Some(scheme) = SCHEMES
        .iter()
        .find(|scheme| hash.starts_with(scheme.prefix))
    else {
        let bare = bare_hash(hash);
        if bare != hash && SCHEMES.iter().any(|scheme| bare.starts_with(scheme.prefix)) {
            return Err(
                "has quotation marks, backslashes or further $ besides the hash; give the hash alone",
            );
        }
        return Err(match looks_hashed(hash) {
            true => "is a hash of a scheme that crypt(3) does not know; make one with `mkpasswd`",
            false => {
                "is not a password hash, so the password would never be accepted; make one with `mkpasswd`, and mind that \
                      a shell replaces $ within double quotation marks"
            }
        });
    };
    let last = hash.rsplit('$').next().unwrap_or_default();
    if last.len() != scheme.hash
        || hash.len() <= scheme.prefix.len() + scheme.hash.min(last.len())
            && !hash.starts_with("$2")
    {
        return Err("is a password hash that is shortened or damaged; copy the whole of it");
    }
    if let Some(rounds) = hash
        .split('$')
        .nth(2)
        .and_then(|part| part.strip_prefix("rounds="))
        && rounds.parse::<u32>().is_err()
    {
        return Err("is a password hash whose rounds are not a number; make one with `mkpasswd`");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "./".contains(c);
    if !last.chars().all(is_plain) {
        return Err("is a password hash that is shortened or damaged; copy the whole of it");
    }
    Ok(())
}

/// Whether Proxmox VE passes a value of `cipassword` on as it is; it hashes every other (PVE::API2::Qemu,
/// `^\$(?:[156]|2[ay])(\$.+){2}`).
pub fn is_passed_on_by_pve(text: &str) -> bool {
    has_two_parts(text, &["1", "5", "6", "2a", "2y"])
}

/// Whether cloud-init takes a password of `chpasswd.list` or `password` for a hash; it sets every other as it is
/// (cloudinit/config/cc_set_passwords.py).
pub fn is_hash_to_chpasswd(text: &str) -> bool {
    has_two_parts(text, &["1", "2a", "2y", "5", "6"])
}

/// `$SCHEME$something$something`, where a further `$` may be anything.
fn has_two_parts(text: &str, schemes: &[&str]) -> bool {
    let parts = || {
        let (scheme, rest) = text.strip_prefix('$')?.split_once('$')?;
        // `.+` takes further `$` in, so that one of them may be empty.
        let split = rest
            .char_indices()
            .skip(1)
            .any(|(at, c)| c == '$' && at + 1 < rest.len());
        (schemes.contains(&scheme) && split).then_some(())
    };
    parts().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA512: &str = "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1";
    const YESCRYPT: &str =
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7";

    #[test]
    fn hashes_are_told_from_passwords() {
        for hash in [
            SHA512,
            YESCRYPT,
            "$5$rounds=5000$salt$cKRA0A5uaKu0/NNi2WMrB.mMOAVMowckrDNQ4fKUJ06",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
            "!",
            "*",
            "",
            "x",
        ] {
            assert_eq!(check_hash(hash), Ok(()), "{hash}");
        }
        assert_eq!(check_hash(&format!("!{SHA512}")), Ok(()));
        for (wrong, reason) in [
            ("geheim", "not a password hash"),
            ("saltsalt", "not a password hash"),
            ("$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "scheme"),
            (&SHA512[..60], "shortened"),
            ("$6$saltsalt", "shortened"),
            (&SHA512.replace("$6$", "$6$rounds=x$"), "rounds"),
            (&SHA512.replace('/', "-"), "damaged"),
            (&SHA512.replace('$', "$$"), "besides the hash"),
            ("$6$salt salt$x", "blanks"),
        ] {
            assert!(check_hash(wrong).unwrap_err().contains(reason), "{wrong}");
        }
    }

    #[test]
    fn what_proxmox_and_cloud_init_hash_again() {
        assert!(is_passed_on_by_pve(SHA512) && is_hash_to_chpasswd(SHA512));
        assert!(looks_hashed(YESCRYPT));
        for again in [
            YESCRYPT,
            "$2b$12$abc$def",
            "$7$a$b",
            "$gy$a$b$c",
            "$argon2id$v$x",
        ] {
            assert!(
                looks_hashed(again) && !is_passed_on_by_pve(again) && !is_hash_to_chpasswd(again),
                "{again}"
            );
        }
        for wrapped in [
            format!(" {SHA512}\n"),
            format!("'{SHA512}'"),
            format!("!{SHA512}"),
            SHA512.replace('$', "$$"),
            SHA512.replace('$', "\\$"),
        ] {
            assert!(looks_hashed(&wrapped), "{wrapped}");
            assert_eq!(bare_hash(&wrapped), SHA512);
        }
        assert!(looks_hashed(
            "$md5,rounds=904$Vc3VgyFx44iS8.Yu$Scf90iLWN6O6mT9TA06NK/"
        ));
        for password in ["", "x", "$", "$$", "a$6$b$c", "$6$", "$ecret", "$100 $bill"] {
            assert!(!looks_hashed(password) || password == "$6$", "{password}");
            assert!(!is_passed_on_by_pve(password), "{password}");
        }
    }
}
