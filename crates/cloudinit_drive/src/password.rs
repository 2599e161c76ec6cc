//! Passwords as the guest's `/etc/shadow` holds them.

use nocloud_seed::{bare_hash, check_hash, is_passed_on_by_pve, looks_hashed};
use sha_crypt::{PasswordHasher, PasswordVerifier, ShaCrypt};

use crate::error::Error;

/// Bytes of salt: 16 characters once encoded. crypt(3) takes no more than
/// that, and would not recognise a hash made with a longer one.
const SALT: usize = 12;

/// Refuses a hash that Proxmox VE would take for the password and hash once more, and one that is damaged.
///
/// # Errors
/// The failure, which does not show the value.
pub fn check(password: &str) -> Result<(), Error> {
    let refuse = |problem| Err(Error::InvalidPassword(problem));
    if !looks_hashed(password) {
        return Ok(());
    }
    if !is_passed_on_by_pve(password) {
        let bare = bare_hash(password);
        if bare != password && is_passed_on_by_pve(&bare) {
            return refuse(
                "has blanks, quotation marks, further $ or a ! besides the hash, so Proxmox VE would hash all of it; give the hash \
                 alone",
            );
        }
        return refuse(
            "is a hash of a scheme that Proxmox VE hashes once more, so the password would never be accepted; give a \
             SHA-512 hash (mkpasswd -m sha-512) or the password itself, or hashed_passwd in user_data with kind=nocloud",
        );
    }
    check_hash(password).or_else(refuse)
}

/// The SHA-512 crypt hash of a password with a fresh salt; a hash stays as it is.
pub fn hash(password: &str) -> Result<String, Error> {
    if is_passed_on_by_pve(password) {
        return Ok(password.to_owned());
    }
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|error| Error::Hash(error.to_string()))?;
    let hash = ShaCrypt::SHA512
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| Error::Hash(error.to_string()))?;
    Ok(hash.as_str().to_owned())
}

/// Whether `hash` is the password's.
pub fn matches(password: &str, hash: &str) -> bool {
    password == hash
        || (!is_passed_on_by_pve(password)
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
        assert!(is_passed_on_by_pve(&a) && matches("geheim", &a) && !matches("falsch", &a));
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
            assert!(
                is_passed_on_by_pve(made) && matches("geheim", made) && !matches("falsch", made)
            );
        }
    }

    #[test]
    fn hashes_that_proxmox_would_hash_again_are_refused() {
        for hash in [
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$7$CU..../....salt$hash",
            "$gy$j9T$salt$hash",
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
            "$6$saltsalt$short",
            "'$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1'",
            "!$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
            "$$1$$saltsalt$$qjXMvbEw8oaL.CzflDtaK/",
        ] {
            let refused = check(hash).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.starts_with("cipassword: "), "{refused}");
            assert!(!refused.contains(hash));
        }
        for taken in [
            "geheim",
            "",
            "$ecret",
            "pa$$word",
            "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
            "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1",
        ] {
            assert!(check(taken).is_ok(), "{taken}");
        }
    }
}
