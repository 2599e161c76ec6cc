//! SSH host keys that a guest shall have from its first start.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::public_key::{PublicKeyLine, check_blob};
use crate::{Error, der, mime, wire};

/// The kinds of host keys that sshd offers by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on a NIST curve.
    Ecdsa,
    /// RSA.
    Rsa,
}

impl KeyKind {
    pub(crate) const ALL: [Self; 3] = [Self::Ed25519, Self::Ecdsa, Self::Rsa];

    /// The name in `/etc/ssh/ssh_host_NAME_key`.
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::Ed25519 => "ed25519",
            KeyKind::Ecdsa => "ecdsa",
            KeyKind::Rsa => "rsa",
        }
    }

    /// How the algorithm in a public key line begins.
    fn algorithm(self) -> &'static str {
        match self {
            KeyKind::Ed25519 => "ssh-ed25519",
            KeyKind::Ecdsa => "ecdsa-sha2-",
            KeyKind::Rsa => "ssh-rsa",
        }
    }
}

/// A host key pair, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    kind: KeyKind,
    private: String,
    public: String,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKey")
            .field("kind", &self.kind)
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// How wide OpenSSH writes its own format (sshkey.c), and everybody the older ones (RFC 7468).
const OPENSSH_WIDTH: usize = 70;
const PEM_WIDTH: usize = 64;

/// The labels of private keys that sshd loads.
const LABELS: [&str; 4] = [OPENSSH, "RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"];
const OPENSSH: &str = "OPENSSH PRIVATE KEY";

impl HostKey {
    /// Takes a private key in PEM (OpenSSH's format or an older one) and its public key line. The key is
    /// written anew as OpenSSH writes it, however its lines were broken, joined or indented on the way
    /// here. The public part may be left out.
    ///
    /// # Errors
    /// [`Error::HostKey`] for a private key that is none, is damaged, has a passphrase (sshd could not
    /// load it), is of another kind, or does not belong to the public key. Each would show only as a
    /// guest that nobody can log in to.
    pub fn new(kind: KeyKind, private: &str, public: Option<&str>) -> Result<Self, Error> {
        let wrong = |problem| Error::HostKey {
            kind: kind.name(),
            problem,
        };
        let (label, bytes) = unwrap_pem(private).map_err(wrong)?;
        let blob = match label {
            OPENSSH => openssh_blob(&bytes),
            _ => pem_blob(label, &bytes),
        }
        .map_err(wrong)?;
        let algorithm = algorithm(&blob).ok_or(wrong(DAMAGED))?.to_owned();
        if !algorithm.starts_with(kind.algorithm()) {
            return Err(wrong("is a key of another kind"));
        }
        check_blob(&algorithm, &blob).map_err(|_| wrong(DAMAGED))?;
        let public = match public.map(str::trim).filter(|p| !p.is_empty()) {
            None => format!("{algorithm} {}", STANDARD.encode(&blob)),
            Some(line) if line.contains(['\n', '\r']) => {
                return Err(wrong("has a public key of several lines"));
            }
            Some(line) => {
                let read = PublicKeyLine::parse(line)
                    .map_err(|_| wrong("has a public key that is not a line of type and base64"))?;
                if read.is_certificate || !read.algorithm.starts_with(kind.algorithm()) {
                    return Err(wrong("has a public key of another kind"));
                }
                if STANDARD.decode(read.encoded).ok() != Some(blob) {
                    return Err(wrong(
                        "has a public key that does not belong to the private one",
                    ));
                }
                // sshd reads no options in front of it.
                format!("{} {} {}", read.algorithm, read.encoded, read.comment)
            }
        };
        let public = public.trim_end();
        let width = if label == OPENSSH {
            OPENSSH_WIDTH
        } else {
            PEM_WIDTH
        };
        Ok(HostKey {
            kind,
            private: wrap_pem(label, &bytes, width),
            public: format!("{public}\n"),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The private key file's content.
    pub fn private(&self) -> &str {
        &self.private
    }

    /// The public key file's content: one line.
    pub fn public(&self) -> &str {
        &self.public
    }
}

const DAMAGED: &str = "is damaged or not whole; copy the whole file";
const PASSPHRASE: &str =
    "has a passphrase, which sshd cannot ask for; remove it (ssh-keygen -p -N '' -f FILE)";

/// The label and the bytes of the one key in a text, whatever became of its line breaks.
fn unwrap_pem(text: &str) -> Result<(&'static str, Vec<u8>), &'static str> {
    let text = text.replace('\u{feff}', "");
    // A variable of the environment, or JSON encoded once too often.
    let text = text
        .replace("\\\\", "\\")
        .replace("\\r", "")
        .replace("\\n", "\n");
    if !text.contains(BEGIN) {
        // A secret of a CI service.
        return match mime::decoded_leniently(&text).and_then(|bytes| String::from_utf8(bytes).ok())
        {
            Some(inner) if inner.contains(BEGIN) => unwrap_pem(&inner),
            _ => Err(not_pem(&text)),
        };
    }
    // ECDSA keys of `openssl ecparam` have the curve in a block of its own before them, which sshd passes over.
    let blocks: Vec<&str> = text.split(BEGIN).skip(1).collect();
    let is_private =
        |block: &&&str| label_of(block).is_none_or(|label| label.contains("PRIVATEKEY"));
    let mut private = blocks.iter().filter(is_private);
    let (Some(block), None) = (private.next().or(blocks.first()), private.next()) else {
        return Err("holds more than one private key");
    };
    let named = label_of(block).ok_or(DAMAGED)?;
    if named == "ENCRYPTEDPRIVATEKEY" {
        return Err(PASSPHRASE);
    }
    let label = LABELS
        .into_iter()
        .find(|label| squeezed(label) == named)
        .ok_or(match named.as_str() {
            "DSAPRIVATEKEY" => "is a DSA key, which OpenSSH 7.0 and newer do not offer",
            _ => "is not a private key that sshd loads (OpenSSH's format, or PEM of RSA or ECDSA)",
        })?;
    let (_, rest) = block.split_once("-----").ok_or(DAMAGED)?;
    let (body, rest) = rest.split_once("-----END").ok_or(DAMAGED)?;
    let (end, _) = rest.split_once("-----").ok_or(DAMAGED)?;
    if squeezed(end) != named {
        return Err(DAMAGED);
    }
    if body.contains("ENCRYPTED") {
        return Err(PASSPHRASE);
    }
    let bytes = STANDARD.decode(squeezed(body)).map_err(|_| DAMAGED)?;
    Ok((label, bytes))
}

const BEGIN: &str = "-----BEGIN";

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// What a block is, without blanks.
fn label_of(block: &str) -> Option<String> {
    block.split_once("-----").map(|(label, _)| squeezed(label))
}

/// What a text is that has no key in PEM.
fn not_pem(text: &str) -> &'static str {
    let text = text.trim();
    if text.starts_with("PuTTY-User-Key-File") {
        "is in PuTTY's format; convert it (puttygen FILE -O private-openssh)"
    } else if text.starts_with("$ANSIBLE_VAULT") {
        "is encrypted by Ansible Vault; decrypt it with a lookup (ansible.builtin.file does so)"
    } else if PublicKeyLine::parse(text).is_ok() {
        "is a public key where the private one is expected"
    } else if text.starts_with(['/', '~', '.']) && !text.contains(char::is_whitespace) {
        "is the name of a file and not a key; give it as private_file"
    } else {
        "is not a private key in PEM (-----BEGIN ... PRIVATE KEY-----)"
    }
}

fn wrap_pem(label: &str, bytes: &[u8], width: usize) -> String {
    let mut out = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(bytes);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII.
        let (line, more) = rest.split_at(width.min(rest.len()));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The public key of a private key in OpenSSH's format, all of which is checked as sshd does on loading.
///
/// The format (PROTOCOL.key in OpenSSH's source): `openssh-key-v1\0`, then the strings cipher, KDF and KDF
/// options, the number of keys, the public key as a string, and the private part as a string.
fn openssh_blob(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let rest = bytes.strip_prefix(b"openssh-key-v1\0").ok_or(DAMAGED)?;
    let (cipher, rest) = wire::string(rest).ok_or(DAMAGED)?;
    if cipher != b"none" {
        return Err(PASSPHRASE);
    }
    let (kdf, rest) = wire::string(rest).ok_or(DAMAGED)?;
    let (_kdf_options, rest) = wire::string(rest).ok_or(DAMAGED)?;
    let (count, rest) = rest.split_at_checked(4).ok_or(DAMAGED)?;
    if kdf != b"none" || count != [0, 0, 0, 1] {
        return Err(DAMAGED);
    }
    let (blob, rest) = wire::string(rest).ok_or(DAMAGED)?;
    let (private, rest) = wire::string(rest).ok_or(DAMAGED)?;
    if !rest.is_empty() || !belongs(private, blob) {
        return Err(DAMAGED);
    }
    Ok(blob.to_vec())
}

/// Whether the private part is whole and has this public key.
fn belongs(private: &[u8], blob: &[u8]) -> bool {
    /// What sshd takes for the block size of no cipher.
    const BLOCK: usize = 8;
    let checked = || -> Option<bool> {
        let (checks, rest) = private.split_at_checked(8)?;
        let (name, mut rest) = wire::string(rest)?;
        let fields = match name {
            b"ssh-ed25519" => 3,
            b"ssh-rsa" => 7,
            _ => 4,
        };
        let mut found = vec![name];
        for _ in 0..fields {
            let (next, more) = wire::string(rest)?;
            found.push(next);
            rest = more;
        }
        let public = wire::strings(blob)?;
        let same = match name {
            // The private half ends with the public key.
            b"ssh-ed25519" => found[1] == *public.get(1)? && found[2].get(32..)? == found[1],
            // Modulus and exponent stand the other way round here.
            b"ssh-rsa" => found[1] == *public.get(2)? && found[2] == *public.get(1)?,
            _ => found[1] == *public.get(1)? && found[2] == *public.get(2)?,
        };
        let padding = rest.iter().zip(1u8..).all(|(byte, n)| *byte == n);
        Some(
            checks[..4] == checks[4..]
                && name == *public.first()?
                && same
                && padding
                && private.len().is_multiple_of(BLOCK),
        )
    };
    checked().unwrap_or(false)
}

/// The public key of a private key in PKCS#1 (RFC 8017, A.1.2), SEC 1 (RFC 5915) or PKCS#8 (RFC 5958).
fn pem_blob(label: &str, bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    match label {
        "RSA PRIVATE KEY" => rsa_blob(bytes).ok_or(DAMAGED),
        "EC PRIVATE KEY" => ec_blob(bytes, None),
        _ => {
            let key = der::whole(bytes, der::SEQUENCE).ok_or(DAMAGED)?;
            let (_version, rest) = der::next(key, der::INTEGER).ok_or(DAMAGED)?;
            let (algorithm, rest) = der::next(rest, der::SEQUENCE).ok_or(DAMAGED)?;
            let (inner, _) = der::next(rest, der::OCTETS).ok_or(DAMAGED)?;
            let (oid, parameters) = der::next(algorithm, der::OID).ok_or(DAMAGED)?;
            match oid {
                RSA => rsa_blob(inner).ok_or(DAMAGED),
                EC => ec_blob(inner, Some(parameters)),
                ED25519 => Err(
                    "is an Ed25519 key in PKCS#8, which most OpenSSH servers do not load; make one in OpenSSH's format \
                     (ssh-keygen -t ed25519)",
                ),
                _ => Err("is of a kind that sshd does not load"),
            }
        }
    }
}

fn rsa_blob(bytes: &[u8]) -> Option<Vec<u8>> {
    let key = der::whole(bytes, der::SEQUENCE)?;
    let (_version, rest) = der::next(key, der::INTEGER)?;
    let (modulus, rest) = der::next(rest, der::INTEGER)?;
    let (exponent, mut rest) = der::next(rest, der::INTEGER)?;
    // The private exponent, two primes, two exponents and a coefficient.
    for _ in 0..6 {
        rest = der::next(rest, der::INTEGER)?.1;
    }
    rest.is_empty()
        .then(|| blob(&[b"ssh-rsa", exponent, modulus]))
}

fn ec_blob(bytes: &[u8], parameters: Option<&[u8]>) -> Result<Vec<u8>, &'static str> {
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
    const P521: &[u8] = &[0x2b, 0x81, 4, 0, 0x23];
    let parts = || {
        let key = der::whole(bytes, der::SEQUENCE)?;
        let (_version, rest) = der::next(key, der::INTEGER)?;
        let (_scalar, mut rest) = der::next(rest, der::OCTETS)?;
        let mut parameters = parameters;
        if let Some((own, more)) = der::next(rest, der::CONTEXT_0) {
            (parameters, rest) = (Some(own), more);
        }
        let (curve, _) = der::next(parameters?, der::OID)?;
        let point = der::next(rest, der::CONTEXT_1)
            .and_then(|(bits, _)| der::whole(bits, der::BITS)?.strip_prefix(&[0]));
        Some((curve, point))
    };
    let (curve, point) = parts().ok_or(DAMAGED)?;
    let (algorithm, curve) = match curve {
        P256 => ("ecdsa-sha2-nistp256", "nistp256"),
        P384 => ("ecdsa-sha2-nistp384", "nistp384"),
        P521 => ("ecdsa-sha2-nistp521", "nistp521"),
        _ => {
            return Err("is on a curve that SSH does not have (NIST's P-256, P-384 and P-521 are)");
        }
    };
    let point =
        point.ok_or("does not hold its public key; write it anew (ssh-keygen -p -N '' -f FILE)")?;
    Ok(blob(&[algorithm.as_bytes(), curve.as_bytes(), point]))
}

/// A public key in SSH's encoding.
fn blob(fields: &[&[u8]]) -> Vec<u8> {
    let field = |field: &&[u8]| {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), *field].concat()
    };
    fields.iter().flat_map(field).collect()
}

/// The algorithm that a public key blob begins with.
fn algorithm(blob: &[u8]) -> Option<&str> {
    std::str::from_utf8(wire::string(blob)?.0).ok()
}
