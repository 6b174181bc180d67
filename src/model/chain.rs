//! [`Chain`]: an error for a log line, with everything that caused it.

use std::fmt;

/// Shows an error with all its causes. Some libraries' errors end with the words of their cause already; those are
/// not said twice.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn each_cause_is_said_once() {
        let layers = |texts: &[&'static str]| {
            texts.iter().rev().fold(None, |source, text| Some(Box::new(Layer { text, source }))).unwrap()
        };
        let chain = |texts: &[&'static str]| Chain(&*layers(texts)).to_string();
        assert_eq!(
            chain(&["can't start", "can't connect", "no such file"]),
            "can't start: can't connect: no such file"
        );
        assert_eq!(
            chain(&["can't start", "can't connect: no such file", "no such file"]),
            "can't start: can't connect: no such file"
        );
    }
}
