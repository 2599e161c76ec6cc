//! cloud-init seeds: from structured input to the one ISO that a guest reads.

pub mod iso;
