//! guest-ssh
