//! What a pipeline says of a served model.

use std::collections::BTreeSet;
use std::time::Duration;

use fracture_stage::{ModelSpec, ParameterError};
use serde_json::{Map, Value, json};

use crate::address::{Address, PUBLIC};
use crate::call::Protocol;

/// How the source of a served model begins.
pub const SCHEME: &str = "openai://";

/// Fields of a request that are settings of a stage: `extra` may not hold them.
const OWN: [&str; 16] = [
    "model",
    "messages",
    "prompt",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "n",
    "best_of",
    "echo",
    "stream",
    "logprobs",
    "top_logprobs",
    "max_tokens",
    "max_completion_tokens",
    "tools",
];

/// Words that name secrets: `extra` is stored and sent in the open.
const SECRETS: [&str; 6] = ["api_key", "apikey", "api-key", "authorization", "password", "secret"];

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

    /// What, beside the request's text and the stage's settings, determines a result: in every key. The address is not in
    /// it.
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

    /// The name of the field that bounds a completion. The public API wants the newer one, other servers know the older.
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

/// Reads settings one by one and keeps what is wrong.
struct Reading<'a> {
    spec: &'a ModelSpec,
    errors: Vec<ParameterError>,
}

impl Reading<'_> {
    fn wrong(&mut self, setting: &str, problem: &str, hint: &str) {
        let message = format!("`{setting}` of the served model `{}`: {problem}", self.spec.name);
        self.errors.push(ParameterError::at(&["model"], message).hint(hint));
    }

    fn get(&self, setting: &str) -> Option<&Value> {
        self.spec.settings.get(setting).filter(|value| !value.is_null())
    }

    /// Settings of models that run here are refused, not dropped.
    fn only_known(&mut self) {
        const KNOWN: [&str; 14] = [
            "base_url",
            "api_key_env",
            "protocol",
            "revision",
            "extra",
            "lacks",
            "token_limit",
            "concurrency",
            "requests_per_minute",
            "tokens_per_minute",
            "timeout",
            "retries",
            "max_error_rate",
            "price",
        ];
        let spec = self.spec;
        for setting in spec
            .settings
            .keys()
            .filter(|setting| spec.settings[*setting] != Value::Null)
        {
            if !KNOWN.contains(&setting.as_str()) && setting != "chat_template" {
                self.wrong(setting, "a served model has no such setting", "leave it out");
            }
        }
    }

    fn address(&mut self) -> Option<Address> {
        let text = self.text("base_url").unwrap_or_else(|| PUBLIC.to_owned());
        match Address::parse(&text) {
            Ok(address) => Some(address),
            Err(problem) => {
                self.wrong(
                    "base_url",
                    &problem,
                    "e.g. https://example.org/v1; a key comes in by api_key_env",
                );
                None
            }
        }
    }

    fn text(&mut self, setting: &str) -> Option<String> {
        match self.get(setting)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.wrong(setting, "it is no text", "write it as text");
                None
            }
        }
    }

    fn number(&mut self, setting: &str) -> Option<f64> {
        let number = self.get(setting)?.as_f64();
        if number.is_none() {
            self.wrong(setting, "it is no number", "write it as a number");
        }
        number
    }

    fn count(&mut self, setting: &str) -> Option<u32> {
        let value = self.get(setting)?.as_u64().and_then(|count| u32::try_from(count).ok());
        let least = u32::from(setting != "retries");
        if value.is_none_or(|count| count < least) {
            self.wrong(setting, "it is no count", "write it as a whole number");
            return None;
        }
        value
    }

    fn choice<T: Copy>(&mut self, setting: &str, choices: &[(&str, T)]) -> Option<T> {
        let written = self.text(setting)?;
        let found = choices.iter().find(|(name, _)| *name == written);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.wrong(
                setting,
                &format!("there is no `{written}`"),
                &format!("it is one of {}", names.join(", ")),
            );
        }
        found.map(|(_, choice)| *choice)
    }

    fn timeout(&mut self) -> Duration {
        const USUAL: Duration = Duration::from_secs(300);
        let Some(value) = self.get("timeout").cloned() else {
            return USUAL;
        };
        let seconds = match &value {
            Value::String(text) => {
                let unit = text.chars().next_back().unwrap_or_default();
                let scale = match unit {
                    's' => 1.0,
                    'm' => 60.0,
                    'h' => 3600.0,
                    _ => f64::NAN,
                };
                text.trim_end_matches(unit)
                    .trim()
                    .parse::<f64>()
                    .ok()
                    .map(|number| number * scale)
            }
            value => value.as_f64(),
        };
        let duration = seconds.filter(|seconds| *seconds > 0.0);
        match duration.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(duration) => duration,
            None => {
                self.wrong(
                    "timeout",
                    "it is no duration",
                    "give seconds, or a text such as 90s or 10m",
                );
                USUAL
            }
        }
    }

    fn extra(&mut self) -> Map<String, Value> {
        let Some(value) = self.get("extra").cloned() else {
            return Map::new();
        };
        let Value::Object(extra) = value else {
            self.wrong("extra", "it is no map", "e.g. { top_k: 40 }");
            return Map::new();
        };
        for name in extra.keys() {
            if OWN.contains(&name.as_str()) {
                self.wrong(
                    "extra",
                    &format!("`{name}` is not an extra: the stage's own settings say it"),
                    "leave it out of `extra`",
                );
            }
            let lower = name.to_ascii_lowercase();
            if SECRETS.iter().any(|secret| lower.contains(secret)) {
                self.wrong(
                    "extra",
                    &format!("`{name}` looks like a secret, which must not enter a pipeline"),
                    "say api_key_env: NAME",
                );
            }
        }
        extra
    }

    fn lacks(&mut self) -> BTreeSet<Lack> {
        let mut lacks = BTreeSet::new();
        let Some(value) = self.get("lacks").cloned() else {
            return lacks;
        };
        let names: Vec<&str> = Lack::ALL.iter().map(|(name, _)| *name).collect();
        for item in value.as_array().into_iter().flatten() {
            match Lack::ALL.iter().find(|(name, _)| item == name) {
                Some((_, lack)) => drop(lacks.insert(*lack)),
                None => self.wrong(
                    "lacks",
                    &format!("there is no {item}"),
                    &format!("known are {}", names.join(", ")),
                ),
            }
        }
        if !value.is_array() {
            self.wrong(
                "lacks",
                "it is no list",
                &format!("e.g. [seed]; known are {}", names.join(", ")),
            );
        }
        lacks
    }

    fn price(&mut self) -> Option<Price> {
        let value = self.get("price").cloned()?;
        let of = |name: &str| value.get(name).and_then(Value::as_f64).filter(|price| *price >= 0.0);
        match (of("input"), of("output")) {
            (Some(input), Some(output)) => Some(Price { input, output }),
            _ => {
                self.wrong(
                    "price",
                    "it says no price",
                    "{ input: 0.4, output: 1.6 }, each for a million tokens",
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
