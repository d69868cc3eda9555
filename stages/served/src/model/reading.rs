//! Reading the settings of a served model, one by one.

use std::collections::BTreeSet;
use std::time::Duration;

use fracture_stage::{ModelSpec, ParameterError};
use serde_json::{Map, Value};

use super::{Lack, Price};
use crate::address::{Address, PUBLIC};

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

/// The names of all fields of a value, those inside others too.
fn names_in<'a>(value: &'a Value, names: &mut Vec<&'a String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            names.push(name);
            names_in(value, names);
        }),
        Value::Array(items) => items.iter().for_each(|item| names_in(item, names)),
        _ => {}
    }
}

/// Reads settings one by one and keeps what is wrong.
pub(super) struct Reading<'a> {
    pub spec: &'a ModelSpec,
    pub errors: Vec<ParameterError>,
}

impl Reading<'_> {
    pub fn wrong(&mut self, setting: &str, problem: &str, hint: &str) {
        let message = format!("`{setting}` of the served model `{}`: {problem}", self.spec.name);
        self.errors.push(ParameterError::at(&["model"], message).hint(hint));
    }

    fn get(&self, setting: &str) -> Option<&Value> {
        self.spec.settings.get(setting).filter(|value| !value.is_null())
    }

    /// Settings of models that run here are refused, not dropped.
    pub fn only_known(&mut self) {
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

    pub fn address(&mut self) -> Option<Address> {
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

    pub fn text(&mut self, setting: &str) -> Option<String> {
        match self.get(setting)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.wrong(setting, "it is no text", "write it as text");
                None
            }
        }
    }

    pub fn number(&mut self, setting: &str) -> Option<f64> {
        let number = self.get(setting)?.as_f64();
        if number.is_none() {
            self.wrong(setting, "it is no number", "write it as a number");
        }
        number
    }

    pub fn count(&mut self, setting: &str) -> Option<u32> {
        let value = self.get(setting)?.as_u64().and_then(|count| u32::try_from(count).ok());
        let least = u32::from(setting != "retries");
        if value.is_none_or(|count| count < least) {
            self.wrong(setting, "it is no count", "write it as a whole number");
            return None;
        }
        value
    }

    pub fn choice<T: Copy>(&mut self, setting: &str, choices: &[(&str, T)]) -> Option<T> {
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

    pub fn timeout(&mut self) -> Duration {
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

    pub fn extra(&mut self) -> Map<String, Value> {
        let Some(value) = self.get("extra").cloned() else {
            return Map::new();
        };
        let Value::Object(extra) = value.clone() else {
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
        }
        let mut names = Vec::new();
        names_in(&value, &mut names);
        for name in names {
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

    pub fn lacks(&mut self) -> BTreeSet<Lack> {
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

    pub fn price(&mut self) -> Option<Price> {
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
