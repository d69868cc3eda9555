//! What a pipeline says of a served model.

use std::collections::BTreeSet;
use std::time::Duration;

use fracture_stage::{ModelSpec, ParameterError};
use serde_json::{Map, Value, json};

use crate::address::Address;
use crate::call::Protocol;
use reading::Reading;

/// How the source of a served model begins.
pub const SCHEME: &str = "openai://";

/// What an endpoint may not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// `seed` is not sent: samples differ by the server's own chance.
    Seed,
    /// `temperature` is not sent: only 1 can be asked for.
    Temperature,
    /// `top_p` can not be asked for.
    TopP,
    /// `stop` can not be asked for.
    Stop,
    /// Log-probabilities can not be asked for.
    Logprobs,
}

impl Lack {
    const ALL: [(&'static str, Self); 5] = [
        ("seed", Self::Seed),
        ("temperature", Self::Temperature),
        ("top_p", Self::TopP),
        ("stop", Self::Stop),
        ("logprobs", Self::Logprobs),
    ];
}

/// What a million tokens cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Of prompts.
    pub input: f64,
    /// Of completions.
    pub output: f64,
}

/// How much may be asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests at one time.
    pub concurrency: u32,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and completions in a minute.
    pub tokens_per_minute: Option<u32>,
}

/// A served model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name in the pipeline.
    pub shown: String,
    /// Its name for the server.
    pub name: String,
    /// Where it is served.
    pub address: Address,
    /// The variable of the environment that holds the key.
    pub key_variable: Option<String>,
    /// The protocol that the pipeline asks for.
    pub protocol: Option<Protocol>,
    /// What the user calls this state of the model.
    pub revision: Option<String>,
    /// Fields that go into every request as they are.
    pub extra: Map<String, Value>,
    /// What the endpoint does not take.
    pub lacks: BTreeSet<Lack>,
    /// The field that bounds a completion.
    pub token_limit: Option<&'static str>,
    /// How much may be asked.
    pub limits: Limits,
    /// How long one request may take.
    pub timeout: Duration,
    /// How often a request is tried again.
    pub retries: u32,
    /// The share of rows that may fail before the run stops.
    pub max_error_rate: f64,
    /// What tokens cost.
    pub price: Option<Price>,
    /// A chat template that is applied here.
    pub chat_template: Option<String>,
}

impl Model {
    /// Reads a model whose source begins with [`SCHEME`].
    ///
    /// # Errors
    /// Everything that is wrong with its settings.
    pub fn new(spec: &ModelSpec) -> Result<Self, Vec<ParameterError>> {
        let mut read = Reading {
            spec,
            errors: Vec::new(),
        };
        let name = spec.source.strip_prefix(SCHEME).unwrap_or_default().to_owned();
        if name.is_empty() {
            read.wrong(
                "source",
                "it names no model",
                "write openai://MODEL, e.g. openai://gpt-4.1-mini",
            );
        }
        read.only_known();
        let address = read.address();
        let key_variable = read.text("api_key_env");
        if let Some(variable) = &key_variable
            && (variable.is_empty() || variable.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        {
            // It is not repeated: somebody may have put the key itself here.
            read.wrong(
                "api_key_env",
                "it is no name of a variable",
                "give the name of the variable that holds the key, e.g. OPENAI_API_KEY, never the key itself",
            );
        }
        if let Some(address) = &address {
            match &key_variable {
                Some(_) if !address.is_private() => read.wrong(
                    "base_url",
                    "a key is not sent over plain http to another machine",
                    "use https://, or a tunnel to this machine",
                ),
                None if address.is_public_api() => read.wrong(
                    "api_key_env",
                    "the public API needs a key",
                    "say api_key_env: OPENAI_API_KEY, and set that variable",
                ),
                _ => {}
            }
        }
        let protocol = read.choice(
            "protocol",
            &[("chat", Protocol::Chat), ("completions", Protocol::Completions)],
        );
        let token_limit = read.choice(
            "token_limit",
            &[
                ("max_tokens", "max_tokens"),
                ("max_completion_tokens", "max_completion_tokens"),
            ],
        );
        let chat_template = read.text("chat_template");
        if chat_template.is_some() && protocol == Some(Protocol::Chat) {
            read.wrong(
                "chat_template",
                "with protocol: chat the server applies its own template",
                "leave out one of the two: a template that is applied here goes over completions",
            );
        }
        let timeout = read.timeout();
        let max_error_rate = read.number("max_error_rate").unwrap_or(0.05);
        if !(0.0..=1.0).contains(&max_error_rate) {
            read.wrong("max_error_rate", "it is a share between 0 and 1", "e.g. 0.05");
        }
        let (revision, extra, lacks, price) = (read.text("revision"), read.extra(), read.lacks(), read.price());
        let limits = Limits {
            concurrency: read.count("concurrency").unwrap_or(8),
            requests_per_minute: read.count("requests_per_minute"),
            tokens_per_minute: read.count("tokens_per_minute"),
        };
        let retries = read.count("retries").unwrap_or(8);
        let Some(address) = address.filter(|_| read.errors.is_empty()) else {
            return Err(read.errors);
        };
        Ok(Self {
            shown: spec.name.clone(),
            name,
            address,
            key_variable,
            protocol,
            revision,
            extra,
            lacks,
            token_limit,
            limits,
            timeout,
            retries,
            max_error_rate,
            price,
            chat_template,
        })
    }

    /// What, beside the request's text and the stage's settings, determines a result: in every key. The address is
    /// not in it.
    pub fn identity(&self, protocol: Protocol) -> Value {
        let mut parts = Map::new();
        parts.insert("model".to_owned(), json!(self.name));
        parts.insert("protocol".to_owned(), json!(protocol.name()));
        if let Some(revision) = &self.revision {
            parts.insert("revision".to_owned(), json!(revision));
        }
        if !self.extra.is_empty() {
            parts.insert("extra".to_owned(), Value::Object(self.extra.clone()));
        }
        let unsent = Lack::ALL
            .iter()
            .filter(|(_, lack)| matches!(lack, Lack::Seed | Lack::Temperature) && self.lacks.contains(lack));
        let unsent: Vec<&str> = unsent.map(|(name, _)| *name).collect();
        if !unsent.is_empty() {
            parts.insert("unsent".to_owned(), json!(unsent));
        }
        Value::Object(parts)
    }

    /// What requests must have in common to share an executor.
    pub fn connection(&self) -> String {
        let Limits {
            concurrency,
            requests_per_minute,
            tokens_per_minute,
        } = self.limits;
        json!([
            self.name,
            self.address.as_str(),
            self.key_variable,
            concurrency,
            requests_per_minute,
            tokens_per_minute,
            self.timeout.as_secs_f64(),
            self.retries,
            self.max_error_rate,
            self.price.map(|price| [price.input, price.output]),
        ])
        .to_string()
    }

    /// The name of the field that bounds a completion. The public API wants the newer one, other servers know the
    /// older.
    pub fn limit_field(&self, protocol: Protocol) -> &'static str {
        let usual = match protocol {
            Protocol::Chat if self.address.is_public_api() => "max_completion_tokens",
            _ => "max_tokens",
        };
        self.token_limit.unwrap_or(usual)
    }

    /// Whether the endpoint does not take something.
    pub fn lacks(&self, what: Lack) -> bool {
        self.lacks.contains(&what)
    }
}

mod reading;
#[cfg(test)]
mod tests;
