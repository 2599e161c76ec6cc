//! What an answer may be before it is taken for a mistake.
//!
//! A server that is broken, hostile, or no PVE at all must not take the controller's memory: a JSON
//! value takes up to 70 times the memory of its text (`{"":0}` is 7 bytes, and 450 as an object of
//! its own). The bounds are far above what PVE sends: `cluster/resources` has about 600 bytes, 25
//! values and one object for each guest, a list of volumes about 300 bytes and ten values for
//! each, a task's log about 100 bytes and an object for each line.

use reqwest::Response;

/// The most bytes of an answer: `cluster/resources` of 50,000 guests, or the list of 100,000 volumes.
const MOST_BYTES: usize = 32 << 20;

/// The most values in an answer: `cluster/resources` of 40,000 guests.
const MOST_VALUES: usize = 1_000_000;

/// The most objects in an answer, which take most memory: the log of a task with 200,000 lines.
const MOST_OBJECTS: usize = 200_000;

/// The most bytes that are read of an error; PVE's own are a few lines.
const MOST_OF_ERROR: usize = 1 << 20;

/// Why an answer was not read, or not to its end.
pub(crate) enum Unread {
    Broken(reqwest::Error),
    TooLarge(String),
}

/// The bytes of `response`; of an error (`is_error`) as many as may be one.
pub(crate) async fn bytes(response: &mut Response, is_error: bool) -> Result<Vec<u8>, Unread> {
    let most = if is_error { MOST_OF_ERROR } else { MOST_BYTES };
    let announced = response.content_length().unwrap_or(0);
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    let too_large = || Unread::TooLarge(excess(&format!("{} MiB", MOST_BYTES >> 20)));
    if announced > most && !is_error {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(announced.min(most));
    while let Some(part) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + part.len() > most {
            if is_error {
                break;
            }
            return Err(too_large());
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// Refuse JSON that would take much more memory than it has bytes.
pub(crate) fn check(body: &[u8]) -> Result<(), String> {
    let (mut values, mut objects) = (0_usize, 0_usize);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                // Over the whole string; what is escaped ends none.
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'{' => {
                values += 1;
                objects += 1;
            }
            b'[' | b',' => values += 1,
            _ => {}
        }
    }
    if objects > MOST_OBJECTS {
        return Err(excess(&format!("{MOST_OBJECTS} objects")));
    }
    if values > MOST_VALUES {
        return Err(excess(&format!("{MOST_VALUES} values")));
    }
    Ok(())
}

fn excess(bound: &str) -> String {
    format!(
        "more than {bound}, far beyond what a cluster sends; check that api_host is a Proxmox VE server and no other \
         program answers for it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_strings() {
        let many = |part: &str, times: usize| format!(r#"{{"data":[{}0]}}"#, part.repeat(times));
        assert!(check(many("0,", MOST_VALUES - 10).as_bytes()).is_ok());
        assert!(check(many("0,", MOST_VALUES + 10).as_bytes()).is_err());
        assert!(check(many(r#"{"":0},"#, MOST_OBJECTS + 10).as_bytes()).is_err());
        assert!(check(many("[],", MOST_VALUES).as_bytes()).is_err());
        let text = format!(r#"{{"data":"{}\"{{,"}}"#, "{,[\\\\".repeat(MOST_VALUES));
        assert!(check(text.as_bytes()).is_ok());
        assert!(check(br#"{"data":"never ends\"#).is_ok());
    }

    /// One entry of `cluster/resources` as a real server gives it, with long names and many tags.
    #[test]
    fn a_large_cluster_is_no_excess() {
        let guest = format!(
            r#"{{"cpu":0.0123456789012345,"disk":0,"diskread":123456789,"diskwrite":123456789,"id":"qemu/123456",
            "maxcpu":16,"maxdisk":34359738368,"maxmem":17179869184,"mem":12345678901,"memhost":12345678901,
            "name":"{}","netin":1234567890,"netout":1234567890,"node":"pve-node-0123","status":"running",
            "tags":"{}","template":0,"type":"qemu","uptime":12345678,"vmid":123456,"pool":"a-pool-of-machines",
            "hastate":"started","lock":"backup"}},"#,
            "n".repeat(63),
            "tag-number-one;".repeat(8)
        );
        let body = format!(r#"{{"data":[{}0]}}"#, guest.repeat(30_000));
        assert!(body.len() < MOST_BYTES && check(body.as_bytes()).is_ok());
    }
}
