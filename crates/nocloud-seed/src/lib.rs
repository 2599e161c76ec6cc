//! nocloud-seed
