//! What an account keeps in a folder, as a stream: how it comes to another machine.
//!
//! The stream is a tar archive (`pax(1)`, ustar with GNU's long names). Its last entry says how many others there are, so one that was
//! cut off is noticed. The owner of the folder packs and unpacks it: a unit that runs as that user, or the controller
//! itself where it is the owner.
//!
//! - `pack`, `unpack`: from a folder to the stream, and back
//! - `errand`: what the two ends of the connection between them say

mod errand;
mod pack;
mod unpack;

pub use errand::{Errand, Reply, run, serve};
pub use pack::pack;
pub use unpack::unpack;

use std::io;
use std::path::PathBuf;

/// The last entry.
const END: &str = ".wqcontroller-end";

/// The most that an archive may unpack to, in bytes. A login of QQ with its cache has some hundred megabytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// The most entries of an archive.
const MAX_ENTRIES: u64 = 2_000_000;

/// How much an archive has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Its files, folders and links.
    pub entries: u64,
    /// The content of its files, in bytes.
    pub bytes: u64,
}

/// Why a folder is not packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file or folder can't be read or written.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The stream broke, or is no archive.
    #[error("the stream broke off")]
    Stream(#[source] io::Error),
    /// The other end was gone before the end of the archive.
    #[error("the archive is cut off")]
    CutOff,
    /// There are files in the folder that came from elsewhere.
    #[error("{} is not empty; files of an earlier account of this name are there", .0.display())]
    NotEmpty(PathBuf),
    /// An entry would be outside of the folder, or is neither a file nor a folder nor a link.
    #[error("the entry {} of the archive is refused", .0.display())]
    Refused(PathBuf),
    /// It unpacks to too much.
    #[error("the archive has more than {MAX_ENTRIES} entries or {} GiB", MAX_BYTES / (1024 * 1024 * 1024))]
    TooLarge,
    /// The other end does not say what to do.
    #[error("the errand is not clear")]
    NoErrand,
}
