//! The age recipient that an Ed25519 host key decrypts for, as the program ssh-to-age and sops-nix compute it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bech32::{Bech32, Hrp};
use curve25519_dalek::edwards::CompressedEdwardsY;

/// The length of the name `ssh-ed25519` with its length, and of the length of the key, in the encoding of RFC 4253.
const HEADER: usize = 4 + 11 + 4;

/// The recipient, `age1...`, of a public key `ssh-ed25519 BASE64`. None for keys of another type, which age cannot use so.
pub fn recipient(public: &str) -> Option<String> {
    let mut words = public.split_whitespace();
    if words.next() != Some("ssh-ed25519") {
        return None;
    }
    let blob = STANDARD.decode(words.next()?).ok()?;
    let point: [u8; 32] = blob.get(HEADER..)?.try_into().ok()?;
    // X25519 works with the same point on the Montgomery form of the curve.
    let key = CompressedEdwardsY(point).decompress()?.to_montgomery();
    let prefix = Hrp::parse("age").ok()?;
    bech32::encode::<Bech32>(prefix, key.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::montgomery::MontgomeryPoint;
    use sha2::{Digest, Sha512};

    use super::*;

    fn public(point: &[u8]) -> String {
        let blob = [&b"\0\0\0\x0bssh-ed25519\0\0\0\x20"[..], point].concat();
        format!("ssh-ed25519 {} root@web1", STANDARD.encode(blob))
    }

    #[test]
    fn the_recipient_is_that_of_the_private_half() {
        for seed in [[0u8; 32], [7; 32], std::array::from_fn(|n| n as u8)] {
            // RFC 8032, 5.1.5: what the seed is expanded to is the scalar of both curves.
            let scalar: [u8; 32] = Sha512::digest(seed)[..32].try_into().unwrap();
            let point = curve25519_dalek::EdwardsPoint::mul_base_clamped(scalar);
            let found = recipient(&public(point.compress().as_bytes())).unwrap();
            let (prefix, key) = bech32::decode(&found).unwrap();
            assert_eq!(prefix.as_str(), "age");
            assert_eq!(key, MontgomeryPoint::mul_base_clamped(scalar).as_bytes());
        }
    }

    #[test]
    fn ssh_to_age_has_the_same_recipient() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOHz+U0YtjINc54dZiJNclfmEFifF7RXCFlNlTbuZBji";
        let expected = "age17044m9wgakla6pzftf4srtl3h5mcsr85jysgt5fg23zpnta8sfdqhzn452";
        assert_eq!(recipient(key).as_deref(), Some(expected));
    }

    #[test]
    fn other_keys_have_no_recipient() {
        for key in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-ed25519 !",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==",
            // Not on the curve.
            &public(&[2; 32]),
            &public(&[0; 31]),
        ] {
            assert_eq!(recipient(key), None, "{key}");
        }
    }
}
