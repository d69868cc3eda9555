//! What goes wrong with a request, and whether it concerns one row, the model, or a moment.

use std::fmt;

use fracture_stage::{Error, ErrorKind};
use serde_json::Value;

use crate::model::Model;

/// A server's text is shown up to this length, characters.
const SHOWN: usize = 300;

/// What sort of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Nothing answers, or the connection was cut.
    Connection,
    /// It took too long.
    Timeout,
    /// Too many requests (429).
    RateLimit,
    /// The server failed (5xx), or asked to come back (408, 409, 425).
    Server,
    /// The answer is no JSON, or not that of the protocol, or has no end.
    Malformed,
    /// The prompt and its answer do not fit into the model's context.
    Context,
    /// The server refuses this request.
    Request,
    /// The key is missing, wrong or may not do this.
    Key,
    /// The server does not know the model or the address.
    NotFound,
    /// The account has nothing left.
    Quota,
    /// The server sends elsewhere.
    Redirect,
    /// The run was interrupted.
    Interrupted,
}

impl Sort {
    /// The words that are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::RateLimit => "rate limit",
            Self::Server => "server error",
            Self::Malformed => "malformed answer",
            Self::Context => "context overflow",
            Self::Request => "refused request",
            Self::Key => "key refused",
            Self::NotFound => "not found",
            Self::Quota => "quota used up",
            Self::Redirect => "redirect",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::Connection | Self::Timeout | Self::RateLimit | Self::Server | Self::Malformed
        )
    }

    /// Whether every other request would fail in the same way.
    pub fn concerns_all(self) -> bool {
        matches!(self, Self::Key | Self::NotFound | Self::Quota | Self::Redirect)
    }
}

/// A failed request. Its text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What sort.
    pub sort: Sort,
    /// What happened, a sentence without a full stop.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure.
    pub fn new(sort: Sort, message: impl Into<String>) -> Self {
        Self {
            sort,
            message: message.into(),
        }
    }

    /// The failure that an answer's status and body mean.
    pub fn of_status(status: u16, body: &str) -> Self {
        let said = said(body);
        let lower = format!("{} {}", said.code, said.message).to_lowercase();
        let sort = match status {
            429 if lower.contains("insufficient_quota") || lower.contains("exceeded your current quota") => Sort::Quota,
            429 => Sort::RateLimit,
            402 => Sort::Quota,
            401 | 403 => Sort::Key,
            404 | 405 => Sort::NotFound,
            300..=399 => Sort::Redirect,
            408 | 409 | 425 => Sort::Server,
            _ if is_context(&lower) => Sort::Context,
            500.. => Sort::Server,
            _ => Sort::Request,
        };
        let what = match sort {
            Sort::Key => "the server refuses the key",
            Sort::NotFound => "the server does not know the model or the address",
            Sort::Quota => "the account has nothing left",
            Sort::Context => "the prompt and its answer do not fit into the model's context",
            Sort::RateLimit => "the server takes no more requests for now",
            Sort::Request => "the server refuses the request",
            _ => "the server failed",
        };
        let text = match said.message.is_empty() {
            true => String::new(),
            false => format!(": {}", said.message),
        };
        Self::new(sort, format!("{what} ({status}{text})"))
    }

    /// Whether the server's filter refused the prompt: that is an answer, not a failure.
    pub fn is_filter(status: u16, body: &str) -> bool {
        match status {
            400 => said(body).code.contains("content_filter"),
            // Servers that pass requests on and look at prompts before: it is the prompt that is refused, not the key.
            403 => serde_json::from_str::<Value>(body).is_ok_and(|value| {
                let details = &value["error"]["metadata"];
                details.get("flagged_input").is_some() || details.get("reasons").is_some_and(Value::is_array)
            }),
            _ => false,
        }
    }

    /// As the error that ends a task: with model, address and what to do.
    pub fn into_error(self, model: &Model) -> Error {
        let kind = match self.sort {
            Sort::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Environment,
        };
        Error::new(
            kind,
            format!(
                "the model `{}` ({} at {}) can not be asked",
                model.shown, model.name, model.address
            ),
        )
        .cause(&self.message)
        .hint(self.hint(model))
    }

    /// What to do.
    pub fn hint(&self, model: &Model) -> String {
        match self.sort {
            Sort::Key => match &model.key_variable {
                Some(variable) => format!(
                    "look at the key in the variable `{variable}`: is it whole, of this server, and allowed to use \
                     `{}`?",
                    model.name
                ),
                None => "say api_key_env: NAME of this model, and put the key into that variable".to_owned(),
            },
            Sort::NotFound => format!(
                "look at the model's name in `source: openai://{}` and at `base_url`, which mostly ends in /v1",
                model.name
            ),
            Sort::Quota => {
                "nothing more can be asked with this key until the account is filled up; what landed is kept".to_owned()
            }
            Sort::Redirect => {
                "nothing was sent there; if that is the right server, give its address as `base_url`".to_owned()
            }
            Sort::Context => "shorten the prompt or lower max_new_tokens".to_owned(),
            Sort::Connection => "is the server running, and is `base_url` right?".to_owned(),
            Sort::Timeout => "raise the model's `timeout`, or lower `concurrency`".to_owned(),
            Sort::RateLimit => {
                "set requests_per_minute and tokens_per_minute of the model, or lower `concurrency`".to_owned()
            }
            Sort::Request => {
                "look at what the server says; a setting that it does not take may be left out with `lacks`".to_owned()
            }
            Sort::Malformed => {
                "does `base_url` lead to a server of the OpenAI protocol? It mostly ends in /v1".to_owned()
            }
            Sort::Server | Sort::Interrupted => "run again: only what is missing is asked".to_owned(),
        }
    }
}

/// What servers call a context that is too small.
fn is_context(lower: &str) -> bool {
    let length = [
        "context_length_exceeded",
        "context length",
        "context window",
        "context size",
        "exceed_context_size",
    ];
    length.iter().any(|words| lower.contains(words)) || lower.contains("too many tokens")
}

struct Said {
    code: String,
    message: String,
}

/// What a body says of an error: `{"error": {"message", "code", "type"}}`, `{"error": "…"}`, `{"message": "…"}`,
/// `{"detail": …}`, or just text.
fn said(body: &str) -> Said {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let Some(value) = parsed else {
        let text = body.trim_start();
        // A page for browsers says nothing to a person in a terminal.
        let message = if text.starts_with('<') { "" } else { text };
        return Said {
            code: String::new(),
            message: shortened(message),
        };
    };
    let error = value.get("error").unwrap_or(&value);
    let text = |name: &str| match error.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(other) if !other.is_null() => other.to_string(),
        _ => String::new(),
    };
    let message = match error {
        Value::String(text) => text.clone(),
        _ => [text("message"), text("detail")]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default(),
    };
    Said {
        code: format!("{} {}", text("code"), text("type")),
        message: shortened(&message),
    }
}

/// One line, not too long, without control characters.
pub fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_means_what_servers_mean_by_it() {
        let sort = |status: u16, body: &str| Failure::of_status(status, body).sort;
        let error = |code: &str| format!(r#"{{"error": {{"message": "M.", "code": "{code}"}}}}"#);
        assert_eq!(sort(429, ""), Sort::RateLimit);
        assert_eq!(sort(429, &error("insufficient_quota")), Sort::Quota);
        assert_eq!(sort(401, ""), Sort::Key);
        assert_eq!(sort(404, &error("model_not_found")), Sort::NotFound);
        assert_eq!(sort(400, &error("context_length_exceeded")), Sort::Context);
        let llama = r#"{"error":{"code":400,"message":"the request exceeds the available context size",
            "type":"exceed_context_size_error"}}"#;
        assert_eq!(sort(400, llama), Sort::Context);
        let vllm = r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.",
            "type":"BadRequestError","code":400}"#;
        assert_eq!(sort(400, vllm), Sort::Context);
        assert_eq!(sort(400, &error("unsupported_parameter")), Sort::Request);
        assert_eq!(sort(422, r#"{"detail": [{"loc": ["body", "seed"]}]}"#), Sort::Request);
        assert_eq!(sort(302, ""), Sort::Redirect);
        assert_eq!(sort(503, "<html>busy</html>"), Sort::Server);
        assert_eq!(sort(408, ""), Sort::Server);
        assert!(Failure::is_filter(400, &error("content_filter")) && !Failure::is_filter(400, &error("x")));
        let flagged = r#"{"error": {"code": 403, "message": "Your input was flagged",
            "metadata": {"reasons": ["harassment"], "flagged_input": "…"}}}"#;
        assert!(Failure::is_filter(403, flagged) && !Failure::is_filter(401, flagged));
        assert!(!Failure::is_filter(403, &error("no_access")) && !Failure::is_filter(403, "[]"));
    }

    #[test]
    fn what_a_server_says_is_shown_on_one_line() {
        let failure = Failure::of_status(400, "{\"error\": {\"message\": \"bad\\n\\u001b[31m  seed.\"}}");
        assert_eq!(failure.message, "the server refuses the request (400: bad [31m seed)");
        let page = Failure::of_status(502, "<!doctype html><title>Bad gateway</title>");
        assert_eq!(page.message, "the server failed (502)");
        assert!(Failure::of_status(500, &"x".repeat(10_000)).message.chars().count() < 400);
    }
}
