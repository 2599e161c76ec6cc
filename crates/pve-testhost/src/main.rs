//! pve-testhost
fn main() {}
