//! Checksums of files that are uploaded or downloaded.

use std::path::Path;

use sha2::Digest;

/// The checksum of a file in hex.
pub async fn checksum(file: &Path, algorithm: &str) -> Result<String, String> {
    fn hash<D: Digest + std::io::Write>(file: &Path) -> std::io::Result<String>
    where
        sha2::digest::Output<D>: AsRef<[u8]>,
    {
        let mut digest = D::new();
        std::io::copy(&mut std::fs::File::open(file)?, &mut digest)?;
        Ok(hex::encode(digest.finalize()))
    }
    let hash: fn(&Path) -> std::io::Result<String> = match algorithm {
        "md5" => hash::<md5::Md5>,
        "sha1" => hash::<sha1::Sha1>,
        "sha224" => hash::<sha2::Sha224>,
        "sha384" => hash::<sha2::Sha384>,
        "sha512" => hash::<sha2::Sha512>,
        _ => hash::<sha2::Sha256>,
    };
    let file = file.to_owned();
    let done = tokio::task::spawn_blocking(move || hash(&file)).await;
    done.map_err(|error| error.to_string())?
        .map_err(|error| format!("cannot read the file: {error}"))
}
