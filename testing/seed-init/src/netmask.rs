//! Netmasks in all forms that cloud-init takes.

use std::net::Ipv4Addr;

use serde_yaml_ng::Value;

/// A netmask (`255.255.255.0`, or a prefix length) as a prefix length.
pub fn prefix(netmask: &Value) -> Option<u8> {
    if let Some(number) = netmask.as_u64() {
        return u8::try_from(number).ok();
    }
    let text = netmask.as_str()?;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    u8::try_from(mask.leading_ones()).ok()
}
