//! OneBot v11 in the words of Milky, and back. Pure.
//!
//! Sources: the standard (github.com/botuniverse/onebot-11), Milky's own types (`@saltify/milky-types`), and for what the standard
//! has no word for the notices of NapCat (github.com/NapNeko/NapCatQQ, `src/onebot/event/notice`).
//!
//! - `table`: all that the standard has, and what becomes of it
//! - `event`: events; `segment`: their content; `message`: a message as events and answers have it
//! - `action`: what applications ask for; `params`: how they say it; `answer`: what they get
//! - `outgoing`: messages to send; `sending`: the calls for them
//! - `request_flag`: by what requests are known

pub(super) mod action;
pub(super) mod answer;
pub(super) mod event;
mod message;
mod outgoing;
mod params;
mod request_flag;
mod segment;
mod sending;
pub(super) mod table;
