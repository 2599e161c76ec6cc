//! pveproxy's hand-written parser of multipart uploads, with what it does to unusual bodies.
//!
//! Bytes are looked at as they arrive, one TLS record at a time, as pveproxy does: where a client's writes end shows.

use std::path::PathBuf;

use tokio::io::AsyncWriteExt;

use crate::api::{Call, Upload};
use crate::error::ApiError;
use crate::host::Host;
use crate::http::{Head, Stop, Stream};
use crate::schema::Params;

/// Removes a partial file when the client goes away.
struct Partial(Option<PathBuf>);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Scalar fields in the only order pveproxy takes them.
const FIELDS: [&str; 3] = ["content", "checksum-algorithm", "checksum"];

/// Receive the body of an upload of `length` bytes.
pub async fn receive(
    host: &Host,
    stream: &mut Stream,
    head: &Head,
    call: &Call,
    length: u64,
) -> Result<Upload, Stop> {
    let kind = head.header("content-type").unwrap_or("");
    let mut parts = kind.split(';').map(str::trim);
    if parts.next() != Some("multipart/form-data") {
        return Err(Stop::Drop);
    }
    let Some(boundary) = parts.find_map(|part| part.strip_prefix("boundary=")) else {
        return Err(Stop::Drop);
    };
    let mut params = crate::http::decode_form(&head.query);
    // pveproxy dies on it.
    if params.contains_key("tmpfilename") {
        return Err(Stop::Drop);
    }
    call.check_upload_permission()?;

    let path = host
        .tmp_dir()
        .join(format!("pveupload-{}", host.random_hex(16)));
    let mut partial = Partial(Some(path.clone()));
    let file = tokio::fs::File::create(&path).await?;
    // A record is 16 KiB at most: too little for a trip to the thread that writes.
    let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
    // Quoted boundaries are taken literally and so never found.
    let mut parser = Parser::new(boundary);
    let mut left = length;
    let mut size = 0;
    while left > 0 {
        let chunk = stream
            .chunk(usize::try_from(left).unwrap_or(usize::MAX))
            .await?;
        if chunk.is_empty() {
            return Err(Stop::Drop);
        }
        left -= chunk.len() as u64;
        match parser.push(&chunk) {
            Ok(data) => {
                size += data.len() as u64;
                file.write_all(&data).await?;
            }
            Err(()) => {
                drop(partial);
                stream.discard(left).await;
                return Err(ApiError::empty(400, "Bad Request").into());
            }
        }
    }
    file.flush().await?;
    drop(file);
    partial.0 = None;
    if let Some(name) = &parser.wrong_field {
        let text = format!("wrong field name '{name}' for file upload, expected 'filename'");
        return Err(ApiError::failed(text).into());
    }
    if parser.phase != Phase::Done {
        return Err(ApiError::failed("upload failed").into());
    }
    params.extend(parser.params);
    Ok(Upload {
        params,
        file: path,
        size,
    })
}

#[derive(PartialEq, Clone, Copy, Debug)]
enum Phase {
    /// Before the first boundary.
    Preamble,
    /// At a boundary.
    Fields,
    /// Inside the file.
    File,
    /// After the closing boundary.
    Done,
}

struct Parser {
    delimiter: Vec<u8>,
    phase: Phase,
    buffer: Vec<u8>,
    params: Params,
    /// Index into [`FIELDS`] of the next that may come.
    next: usize,
    wrong_field: Option<String>,
}

impl Parser {
    fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("--{boundary}").into_bytes(),
            phase: Phase::Preamble,
            buffer: Vec::new(),
            params: Params::new(),
            next: 0,
            wrong_field: None,
        }
    }

    /// Take what arrived; returns bytes of the file. `Err` is a 400 at once.
    fn push(&mut self, chunk: &[u8]) -> Result<Vec<u8>, ()> {
        if self.phase == Phase::Done {
            return Ok(Vec::new());
        }
        self.buffer.extend_from_slice(chunk);
        if self.phase == Phase::Preamble
            && let Some(start) = find_delimiter(&self.buffer, &self.delimiter)
        {
            self.buffer.drain(..start);
            self.phase = Phase::Fields;
        }
        while self.phase == Phase::Fields && self.field()? {}
        if self.phase != Phase::File {
            return Ok(Vec::new());
        }
        Ok(self.file())
    }

    /// Take one field at the front of the buffer. `false`: nothing that is understood, or not all of it yet.
    fn field(&mut self) -> Result<bool, ()> {
        let Some(start) =
            line_end(&self.buffer[self.delimiter.len()..]).map(|end| end + self.delimiter.len())
        else {
            return Ok(false);
        };
        let Some(rest) = self.buffer[start..].strip_prefix(b"Content-Disposition: ".as_slice())
        else {
            return Ok(false);
        };
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            // The header may be split anywhere; only a file's name that is all there starts the file.
            return Ok(match self.file_name(rest) {
                Some((name, consumed)) => {
                    let offset = self.buffer.len() - rest.len() + consumed;
                    self.start_file(&name, offset)
                }
                None => false,
            });
        };
        let line = &rest[..end];
        if let Some((name, consumed)) = self.file_name(line) {
            let offset = self.buffer.len() - rest.len() + consumed;
            return Ok(self.start_file(&name, offset));
        }
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        let Some(name) = text
            .strip_prefix("form-data; name=\"")
            .and_then(|name| name.strip_suffix('"'))
        else {
            return Err(());
        };
        let Some(index) = FIELDS
            .iter()
            .position(|field| *field == name)
            .filter(|index| *index >= self.next)
        else {
            return Err(());
        };
        let Some(value_start) = blank_line(rest) else {
            return Ok(false);
        };
        let Some(value_end) = find_delimiter(&rest[value_start..], &self.delimiter) else {
            return Ok(false);
        };
        let value = String::from_utf8_lossy(&rest[value_start..value_start + value_end])
            .trim()
            .to_owned();
        let consumed = self.buffer.len() - rest.len() + value_start + value_end;
        self.params.insert(FIELDS[index].into(), value);
        self.next = index + 1;
        self.buffer.drain(..consumed);
        Ok(true)
    }

    /// `form-data; name="N"; filename="F"` at the front: the two names joined by a NUL, and its length.
    fn file_name(&self, line: &[u8]) -> Option<(String, usize)> {
        let text = String::from_utf8_lossy(line);
        let rest = text.strip_prefix("form-data; name=\"")?;
        let (field, rest) = rest.split_once('"')?;
        let rest = rest.strip_prefix("; filename=\"")?;
        let (name, _) = rest.split_once('"')?;
        let length = "form-data; name=\"\"; filename=\"\"".len() + field.len() + name.len();
        (!name.is_empty()).then(|| (format!("{field}\0{name}"), length))
    }

    fn start_file(&mut self, names: &str, consumed: usize) -> bool {
        let (field, name) = names.split_once('\0').unwrap_or(("", names));
        if field != "filename" {
            self.wrong_field = Some(field.to_owned());
        }
        self.params
            .insert("filename".into(), name.trim().to_owned());
        self.buffer.drain(..consumed);
        // Only what is here by now: a header that comes later becomes part of the file.
        if let Some(end) = blank_line(&self.buffer) {
            self.buffer.drain(..end);
        }
        self.phase = Phase::File;
        false
    }

    /// Bytes of the file that cannot be part of the closing boundary.
    fn file(&mut self) -> Vec<u8> {
        let mut close = self.delimiter.clone();
        close.extend_from_slice(b"--");
        if let Some(at) = memchr::memmem::find(&self.buffer, &close) {
            let mut end = at;
            if end > 0 && self.buffer[end - 1] == b'\n' {
                end -= 1;
                if end > 0 && self.buffer[end - 1] == b'\r' {
                    end -= 1;
                }
            }
            self.phase = Phase::Done;
            let mut data = std::mem::take(&mut self.buffer);
            data.truncate(end);
            return data;
        }
        let keep = (close.len() + 2).min(self.buffer.len());
        let tail = self.buffer.split_off(self.buffer.len() - keep);
        std::mem::replace(&mut self.buffer, tail)
    }
}

/// Where a delimiter line starts.
fn find_delimiter(buffer: &[u8], delimiter: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(buffer, delimiter)
        .find(|at| line_end(&buffer[at + delimiter.len()..]).is_some())
}

/// Length of the line end at the front.
fn line_end(buffer: &[u8]) -> Option<usize> {
    if buffer.starts_with(b"\r\n") {
        Some(2)
    } else {
        buffer.starts_with(b"\n").then_some(1)
    }
}

/// The offset after the first blank line.
fn blank_line(buffer: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(end) = memchr::memchr(b'\n', &buffer[at..]) {
        at += end + 1;
        if let Some(length) = line_end(&buffer[at..]) {
            return Some(at + length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    fn file(extra: &str) -> String {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x.iso\"\r\n{extra}\r\n"
        )
    }

    /// The phase reached, the file's bytes, the fields; `None` for a 400.
    fn parse(chunks: &[&str]) -> Option<(Phase, Vec<u8>, Params)> {
        let mut parser = Parser::new("b");
        let mut data = Vec::new();
        for chunk in chunks {
            data.extend(parser.push(chunk.as_bytes()).ok()?);
        }
        Some((parser.phase, data, parser.params))
    }

    #[test]
    fn a_well_formed_body() {
        let body = format!(
            "{}{}{}{}DATA\r\n--b--\r\n",
            part("content", "iso"),
            part("checksum-algorithm", "sha256"),
            part("checksum", "ab"),
            file("Content-Type: application/octet-stream\r\n")
        );
        for split in [usize::MAX, 10, 45, 150] {
            let split = split.min(body.len());
            let (phase, data, params) = parse(&[&body[..split], &body[split..]]).expect("no 400");
            assert_eq!((phase, data.as_slice()), (Phase::Done, b"DATA".as_slice()));
            assert_eq!(params["filename"], "x.iso");
            assert_eq!(params["checksum"], "ab");
        }
    }

    #[test]
    fn order_is_fixed() {
        assert!(
            parse(&[&format!(
                "{}{}",
                part("checksum", "ab"),
                part("checksum-algorithm", "md5")
            )])
            .is_none()
        );
        assert!(
            parse(&[&format!(
                "{}{}",
                part("checksum", "ab"),
                part("content", "iso")
            )])
            .is_none()
        );
        assert!(parse(&[&format!("{}{}", part("content", "iso"), part("other", "x"))]).is_none());
    }

    #[test]
    fn a_header_split_after_the_name_ends_up_in_the_file() {
        let content = part("content", "iso");
        let (_, data, _) = parse(&[
            &format!("{content}--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x.iso\""),
            "\r\nContent-Type: a/b\r\n\r\nDATA\r\n--b--\r\n",
        ])
        .expect("no 400");
        assert_eq!(data, b"\r\nContent-Type: a/b\r\n\r\nDATA");
    }

    #[test]
    fn odd_bodies() {
        // Fields after the file belong to the file.
        let (phase, data, _) =
            parse(&[&format!("{}D\r\n{}--b--", file(""), part("content", "iso"))]).expect("no 400");
        assert_eq!(phase, Phase::Done);
        assert!(data.starts_with(b"D\r\n--b\r\nContent-Disposition"));
        // Content-Type first, lower-case names, no close delimiter: never done.
        for body in [
            "--b\r\nContent-Type: a/b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\nD\r\n--b--",
            "--b\r\ncontent-disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\nD\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"x\"\r\n\r\nD\r\n",
        ] {
            assert_ne!(parse(&[body]).expect("no 400").0, Phase::Done);
        }
    }
}
