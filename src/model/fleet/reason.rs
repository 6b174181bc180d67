//! [`shown`]: a reason as callers and the log may see it.

use std::sync::Arc;

use super::launching::REGISTRATION;
use crate::model::client::{ClientSpec, ParamValue, RestartHistory};

/// A shorter secret is too common a text to be searched for.
const SHORTEST_SECRET: usize = 4;

/// A reason in one line, of bounded length and without the client's secrets.
pub fn shown(reason: &str, spec: &ClientSpec) -> Arc<str> {
    // The secrets in one line as well, or one with a control character would not match.
    let in_one_line =
        |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let is_hidden = |name: &str, value: &ParamValue| {
        // The registration is secret only to keep it out of replies. Masking it would garble other numbers.
        value.secret && name != REGISTRATION && value.text.len() >= SHORTEST_SECRET
    };
    let hidden = spec.params.iter().filter(|(name, value)| is_hidden(name, value));
    let mut secrets: Vec<String> = hidden.map(|(_, value)| in_one_line(&value.text)).collect();
    // The longest first: one secret may be the beginning of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = in_one_line(reason);
    for secret in secrets {
        text = text.replace(&secret, "***");
    }
    let text = text.trim();
    if text.len() <= RestartHistory::REASON_MAX {
        return text.into();
    }
    let end =
        (0..=RestartHistory::REASON_MAX - "…".len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}
