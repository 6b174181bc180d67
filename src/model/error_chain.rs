//! [`ErrorChain`]: an error with its causes, for a log line.

use std::fmt;

/// Displays an error with all its causes. The errors of some libraries end with the text of their cause, which is not repeated.
pub struct ErrorChain<'a>(pub &'a (dyn std::error::Error + 'a));

impl fmt::Display for ErrorChain<'_> {
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
    fn error_chain_names_each_cause_once() {
        let layers = |texts: &[&'static str]| {
            texts.iter().rev().fold(None, |source, text| Some(Box::new(Layer { text, source }))).unwrap()
        };
        let chain = |texts: &[&'static str]| ErrorChain(&*layers(texts)).to_string();
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
