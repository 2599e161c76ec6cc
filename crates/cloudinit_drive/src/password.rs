//! Passwords as the guest's `/etc/shadow` holds them.

use ansible_module::Failure;
use sha_crypt::{PasswordHasher, PasswordVerifier, ShaCrypt};

/// Bytes of salt: 16 characters once encoded. crypt(3) takes no more than
/// that, and would not recognise a hash made with a longer one.
const SALT: usize = 12;

/// Whether this is a crypt hash already, as Proxmox VE decides it
/// (`encrypt_pw` is left out for these).
pub fn is_hash(text: &str) -> bool {
    let mut parts = text.split('$');
    parts.next() == Some("")
        && matches!(parts.next(), Some("5" | "6" | "2a" | "2y"))
        && parts.next().is_some_and(|part| !part.is_empty())
        && parts.next().is_some_and(|part| !part.is_empty())
}

/// The SHA-512 crypt hash of a password with a fresh salt; a hash stays as it is.
pub fn hash(password: &str) -> Result<String, Failure> {
    if is_hash(password) {
        return Ok(password.to_owned());
    }
    let failed = |why: String| Failure::new("internal", format!("cannot hash the password: {why}"));
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|error| failed(error.to_string()))?;
    let hash = ShaCrypt::SHA512
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| failed(error.to_string()))?;
    Ok(hash.as_str().to_owned())
}

/// Whether `hash` is the password's.
pub fn matches(password: &str, hash: &str) -> bool {
    password == hash
        || (!is_hash(password)
            && ShaCrypt::SHA512
                .verify_password(password.as_bytes(), hash)
                .is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_salted_and_recognised() {
        let (a, b) = (hash("geheim").unwrap(), hash("geheim").unwrap());
        assert_ne!(a, b);
        assert!(is_hash(&a) && matches("geheim", &a) && !matches("falsch", &a));
        assert_eq!(
            a.split('$').nth(3).unwrap().len(),
            16,
            "crypt(3) takes 16 characters of salt: {a}"
        );
        assert_eq!(hash(&a).unwrap(), a);
    }

    /// Made by `openssl passwd -6 -salt saltsalt geheim`, and with `-5`.
    #[test]
    fn hashes_of_others_are_recognised() {
        for made in [
            "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1",
            "$5$saltsalt$cKRA0A5uaKu0/NNi2WMrB.mMOAVMowckrDNQ4fKUJ06",
        ] {
            assert!(is_hash(made) && matches("geheim", made) && !matches("falsch", made));
        }
    }

    #[test]
    fn what_is_no_hash_is_a_password() {
        for text in [
            "",
            "x",
            "$6$",
            "$6$salt",
            "$1$salt$hash",
            "6$salt$hash",
            "$6$$hash",
        ] {
            assert!(!is_hash(text), "{text}");
        }
    }
}
