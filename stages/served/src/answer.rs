//! What a server answers, in the forms that servers give it.

use serde::Deserialize;
use serde_json::Value;

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string came up.
    Stop,
    /// It reached its bound.
    Length,
    /// The server's filter took it away.
    ContentFilter,
    /// The server gives another reason, or none.
    Other,
}

/// A token as the server tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScore {
    /// Its text.
    pub token: String,
    /// Its log-probability, in nats.
    pub logprob: f64,
    /// The most probable tokens at its place.
    pub top: Vec<(String, f64)>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// What the server keeps apart as reasoning.
    pub reasoning: Option<String>,
    /// Why it ended.
    pub finish: Finish,
    /// Its tokens, when log-probabilities were asked for and given.
    pub tokens: Option<Vec<TokenScore>>,
    /// Tokens of the prompt, as the server counts them.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer, as the server counts them.
    pub completion_tokens: Option<u32>,
    /// What the server calls the model that answered.
    pub model: Option<String>,
    /// What the server calls its own state.
    pub fingerprint: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    system_fingerprint: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// A sentence that says in which way it is none.
    pub fn parse(body: Value) -> Result<Self, String> {
        let body: Body =
            serde_json::from_value(body).map_err(|error| format!("the answer has another form: {error}"))?;
        let choice = body.choices.into_iter().next().ok_or("the answer holds no choice")?;
        let finish = match choice.finish_reason.as_deref() {
            Some("stop" | "eos" | "end_turn" | "stop_sequence") => Finish::Stop,
            Some("length" | "max_tokens") => Finish::Length,
            Some("content_filter") => Finish::ContentFilter,
            _ => Finish::Other,
        };
        let (text, reasoning) = match (choice.message, choice.text) {
            // A refusal that the server keeps apart is what the model said.
            (Some(message), _) => {
                let reasoning = message.reasoning_content.or(message.reasoning);
                (message.content.or(message.refusal), reasoning)
            }
            // An answer that is empty says so: `text` or `message` is there.
            (None, None) => return Err("the answer's choice holds no text and no message".to_owned()),
            (None, text) => (text, None),
        };
        // An answer is not less of one because its tokens are counted in an odd way.
        let count = |name: &str| {
            let count = body.usage.get(name)?;
            let whole = |count: f64| (count >= 0.0 && count.fract() == 0.0).then_some(count as u64);
            let count = count.as_u64().or_else(|| count.as_f64().and_then(whole))?;
            u32::try_from(count).ok()
        };
        Ok(Self {
            text: text.unwrap_or_default(),
            reasoning: reasoning.filter(|text| !text.is_empty()),
            finish,
            tokens: choice.logprobs.as_ref().and_then(token_scores),
            prompt_tokens: count("prompt_tokens"),
            completion_tokens: count("completion_tokens"),
            model: body.model.filter(|text| !text.is_empty()),
            fingerprint: body.system_fingerprint.filter(|text| !text.is_empty()),
        })
    }
}

/// Log-probabilities in the form of chat (`content`, which some servers give for completions, too) or in that of
/// completions (`tokens`, `token_logprobs`, `top_logprobs`).
fn token_scores(logprobs: &Value) -> Option<Vec<TokenScore>> {
    if let Some(content) = logprobs.get("content").and_then(Value::as_array) {
        return content.iter().map(of_chat).collect();
    }
    let tokens = logprobs.get("tokens")?.as_array()?;
    let scores = logprobs.get("token_logprobs")?.as_array()?;
    let top = logprobs.get("top_logprobs").and_then(Value::as_array);
    let one = |(index, token): (usize, &Value)| {
        let alternatives = top.and_then(|top| top.get(index)).and_then(Value::as_object);
        Some(TokenScore {
            token: token.as_str()?.to_owned(),
            logprob: scores.get(index)?.as_f64()?,
            top: alternatives
                .into_iter()
                .flatten()
                .filter_map(|(token, logprob)| Some((token.clone(), logprob.as_f64()?)))
                .collect(),
        })
    };
    tokens.iter().enumerate().map(one).collect()
}

fn of_chat(entry: &Value) -> Option<TokenScore> {
    let pair = |entry: &Value| {
        let token = entry.get("token")?.as_str()?.to_owned();
        Some((token, entry.get("logprob")?.as_f64()?))
    };
    let (token, logprob) = pair(entry)?;
    let top = entry.get("top_logprobs").and_then(Value::as_array);
    Some(TokenScore {
        token,
        logprob,
        top: top.into_iter().flatten().filter_map(pair).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_of_log_probabilities_are_read() {
        let chat = json!({ "content": [
            { "token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{ "token": "b", "logprob": -1.0 }] },
        ] });
        let completions =
            json!({ "tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{ "b": -1.0 }], "text_offset": [0] });
        let expected = vec![TokenScore {
            token: "a".to_owned(),
            logprob: -0.5,
            top: vec![("b".to_owned(), -1.0)],
        }];
        assert_eq!(token_scores(&chat), Some(expected.clone()));
        assert_eq!(token_scores(&completions), Some(expected));
        assert_eq!(
            token_scores(&json!({ "content": [{ "token": "a", "logprob": null }] })),
            None
        );
    }

    #[test]
    fn answers_of_both_endpoints_are_read() {
        let chat = json!({
            "model": "m-2026", "system_fingerprint": "fp_1",
            "choices": [{
                "message": { "role": "assistant", "content": "Hi", "reasoning_content": "Hm." },
                "finish_reason": "stop",
            }],
            "usage": { "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7 },
        });
        let answer = Answer::parse(chat).unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), ("Hi", Finish::Stop));
        assert_eq!((answer.prompt_tokens, answer.completion_tokens), (Some(5), Some(2)));
        assert_eq!(answer.reasoning.as_deref(), Some("Hm."));
        assert_eq!(answer.fingerprint.as_deref(), Some("fp_1"));
        let text = Answer::parse(json!({ "choices": [{ "text": "x", "finish_reason": "length", "logprobs": null }] }))
            .unwrap();
        assert_eq!(
            (text.text.as_str(), text.finish, text.tokens),
            ("x", Finish::Length, None)
        );
        let refused =
            json!({ "choices": [{ "message": { "content": null, "refusal": "No." }, "finish_reason": "stop" }] });
        assert_eq!(Answer::parse(refused).unwrap().text, "No.");
    }

    #[test]
    fn what_is_no_answer_says_so() {
        assert!(
            Answer::parse(json!({ "choices": [] }))
                .unwrap_err()
                .contains("no choice")
        );
        assert!(Answer::parse(json!([1])).unwrap_err().contains("another form"));
        for choice in [
            json!({}),
            json!({ "delta": { "content": "part of a stream" } }),
            json!({ "text": null }),
        ] {
            let told = Answer::parse(json!({ "choices": [choice] })).unwrap_err();
            assert!(told.contains("no text and no message"), "{told}");
        }
        assert_eq!(Answer::parse(json!({ "choices": [{ "text": "" }] })).unwrap().text, "");
    }

    #[test]
    fn odd_counts_of_tokens_are_unknown_and_spoil_no_answer() {
        for (usage, told) in [
            (
                json!({ "prompt_tokens": 3.0, "completion_tokens": 2 }),
                (Some(3), Some(2)),
            ),
            (
                json!({ "prompt_tokens": -1, "completion_tokens": 5_000_000_000_u64 }),
                (None, None),
            ),
            (json!({ "prompt_tokens": 2.5, "completion_tokens": "2" }), (None, None)),
            (json!("none"), (None, None)),
            (Value::Null, (None, None)),
        ] {
            let answer = Answer::parse(json!({ "choices": [{ "text": "x" }], "usage": usage })).unwrap();
            assert_eq!((answer.prompt_tokens, answer.completion_tokens), told, "{usage}");
        }
    }
}
