//! Scenes: what people of the sandbox's world say to a bot, and what it is expected to answer. All of it is pure.
//!
//! - `file`: a file of scenes, with the line of every mistake
//! - `raw`: its keys
//! - `expectation`: what the account did, and whether that is what was expected
//! - `people`: names of the world's people and groups
//! - `junit`: the outcome as other programs read it

pub(super) mod expectation;
pub(super) mod file;
pub(super) mod junit;
pub(super) mod people;
mod raw;
