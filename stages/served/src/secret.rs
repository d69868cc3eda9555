//! The key of a server: read from the environment, sent in one header, shown nowhere.

use std::fmt;

use fracture_stage::{Error, ErrorKind};
use http::HeaderValue;
use serde_json::Value;

/// Keys of at least so many characters are looked for in what a server says. Shorter ones are words such as `none`,
/// which local servers take, and may stand in a text by themselves.
const TELLING: usize = 12;

/// Stands where a server repeated the key.
const REMOVED: &str = "[key]";

/// A key. Its `Debug` says nothing.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The key in a variable of the environment; white space around it (the line end of a file) is not part of it.
    ///
    /// # Errors
    /// When the variable is not set or empty, or holds what no header may hold. The error names the variable, never its
    /// value.
    pub fn from_env(variable: &str, model: &str) -> Result<Self, Error> {
        Self::new(std::env::var_os(variable), variable, model)
    }

    fn new(value: Option<std::ffi::OsString>, variable: &str, model: &str) -> Result<Self, Error> {
        let wrong = |problem: &str| {
            Error::new(
                ErrorKind::Environment,
                format!("the key of the model `{model}` is not there: the variable `{variable}` {problem}"),
            )
            .hint(format!("set it: export {variable}=..., then run again"))
        };
        let value = value.ok_or_else(|| wrong("of the environment is not set"))?;
        let value = value.into_string().map_err(|_| wrong("is not UTF-8"))?;
        let key = value.trim();
        if key.is_empty() {
            return Err(wrong("is empty"));
        }
        if HeaderValue::from_str(key).is_err() || !key.is_ascii() {
            return Err(wrong("holds characters that no key has"));
        }
        Ok(Self(key.to_owned()))
    }

    /// `Authorization: Bearer KEY`, marked so that no log shows it.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// A server's text without the key, should it repeat it.
    pub fn scrub(&self, text: String) -> String {
        if self.is_in(&text) {
            return text.replace(&self.0, REMOVED);
        }
        text
    }

    /// A server's body without the key, also where JSON writes it with escapes (`\/`, `\u002d`): what is read from the
    /// body later has none.
    pub fn scrub_body(&self, body: String) -> String {
        let body = self.scrub(body);
        if !body.contains('\\') {
            return body;
        }
        let Ok(mut value) = serde_json::from_str(&body) else {
            return body;
        };
        match self.take_out(&mut value) {
            true => value.to_string(),
            false => body,
        }
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.len() >= TELLING && text.contains(&self.0)
    }

    /// Whether it was in there.
    fn take_out(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) if self.is_in(text) => {
                *text = self.scrub(std::mem::take(text));
                true
            }
            Value::Array(items) => items.iter_mut().fold(false, |found, item| self.take_out(item) | found),
            Value::Object(fields) => {
                let named: Vec<String> = fields.keys().filter(|name| self.is_in(name)).cloned().collect();
                for name in &named {
                    let held = fields.remove(name).unwrap_or_default();
                    fields.insert(self.scrub(name.clone()), held);
                }
                let found = fields
                    .values_mut()
                    .fold(false, |found, item| self.take_out(item) | found);
                found || !named.is_empty()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_shown_nowhere() {
        let secret = Secret::new(Some(" sk-0123456789abcdef\n".into()), "NAME", "m").unwrap();
        assert_eq!(
            format!("{secret:?} {:?}", secret.header().unwrap()),
            "Secret(..) Sensitive"
        );
        assert_eq!(secret.header().unwrap().to_str().unwrap(), "Bearer sk-0123456789abcdef");
        let echoed = "no such key: sk-0123456789abcdef.".to_owned();
        assert_eq!(secret.scrub(echoed), "no such key: [key].");
    }

    #[test]
    fn a_key_that_is_repeated_with_escapes_is_taken_out_too() {
        let secret = Secret::new(Some("sk/0123456789+abc".into()), "NAME", "m").unwrap();
        for (echoed, told) in [
            (r#"{"a":"it is sk\/0123456789+abc."}"#, r#"{"a":"it is [key]."}"#),
            (
                r#"{"b":[{"\u0073k/0123456789\u002babc":"\n"}]}"#,
                r#"{"b":[{"[key]":"\n"}]}"#,
            ),
            (r#"{"c": "no\/key", "d": 1.50}"#, r#"{"c": "no\/key", "d": 1.50}"#),
            (r"no \ JSON: sk/0123456789+abc", r"no \ JSON: [key]"),
        ] {
            assert_eq!(secret.scrub_body(echoed.to_owned()), told);
        }
    }

    #[test]
    fn a_key_that_is_a_word_spoils_no_text() {
        let secret = Secret::new(Some("none".into()), "NAME", "m").unwrap();
        assert_eq!(secret.scrub("none of them".to_owned()), "none of them");
    }

    #[test]
    fn what_is_wrong_with_a_variable_is_told_without_its_value() {
        for (value, told) in [
            (None, "not set"),
            (Some("  "), "is empty"),
            (Some("hunter2\nX-Other: 1"), "characters"),
            (Some("hünter2"), "characters"),
        ] {
            let error = Secret::new(value.map(Into::into), "MY_KEY", "m").unwrap_err();
            assert!(
                error.message.contains("MY_KEY") && error.message.contains(told),
                "{error}"
            );
            assert!(!error.to_string().contains("nter2"), "{error}");
        }
    }
}
