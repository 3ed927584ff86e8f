//! The operators, for arguments whose types the binder has checked and made equal.

pub(super) mod arithmetic;
pub(super) mod compare;
pub(super) mod logic;
