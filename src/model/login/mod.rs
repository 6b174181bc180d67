//! Where the logins of accounts stand, and what follows from that. Only accounts with an implementation have one.
//!
//! - `tracker`: concludes the state of one account from all that is known
//! - `policy`: what is done about it, and which changes are news
//! - `network`: whether the network is gone for all of them

mod network;
mod policy;
mod tracker;

pub use network::NetworkGuard;
pub use policy::{Facts, LoginAction, LoginEvent, LoginPolicy, LoginRules, WhenOffline, WhenPutOut};
pub use tracker::{
    Evidence, Login, LoginAnswer, LoginState, LoginTracker, ProcessSays, PutOut, Said, Transition,
};
