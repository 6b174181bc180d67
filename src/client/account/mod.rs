//! The account: its state and the files that show it, and which account of the network it is.

pub(super) mod binding;
pub(super) mod lifecycle;
mod qr_image;
mod state_file;
