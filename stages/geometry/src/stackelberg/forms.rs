//! Parameters that can be written in several forms: the truth, costs and priors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The regime that shows the truth when no other is named.
const DEPLOY: &str = "deploy";

/// What shows how a model behaves in deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The regime.
    pub regime: String,
    /// The score from which on a deployed answer is unsafe; the row's own `tau` when not given.
    pub tau: Option<f64>,
    /// Other columns that are held at one value.
    pub held: BTreeMap<String, String>,
}

impl Default for Truth {
    fn default() -> Self {
        Self {
            regime: DEPLOY.to_owned(),
            tau: None,
            held: BTreeMap::new(),
        }
    }
}

/// As it is written: the regime alone, or with what is held beside it.
impl Serialize for Truth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.tau.is_none() && self.held.is_empty() {
            return serializer.serialize_str(&self.regime);
        }
        let mut map: BTreeMap<&str, Value> = BTreeMap::from([("regime", self.regime.as_str().into())]);
        map.extend(self.tau.map(|tau| ("tau", tau.into())));
        map.extend(
            self.held
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().into())),
        );
        map.serialize(serializer)
    }
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its JSON Schema is used")]
pub enum TruthSchema {
    Regime(String),
    Held(BTreeMap<String, Value>),
}

pub fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Truth, D::Error> {
    let wrong = |what: String| serde::de::Error::custom(what);
    let mut truth = Truth::default();
    match Value::deserialize(deserializer)? {
        Value::String(regime) => truth.regime = regime,
        Value::Object(map) => {
            for (name, value) in map {
                match (name.as_str(), value) {
                    ("regime", Value::String(regime)) => truth.regime = regime,
                    ("tau", Value::Number(tau)) => truth.tau = tau.as_f64(),
                    ("regime" | "tau", other) => {
                        return Err(wrong(format!("`{name}` of the truth can not be {other}")));
                    }
                    (_, Value::String(text)) => _ = truth.held.insert(name, text),
                    (_, value @ (Value::Number(_) | Value::Bool(_))) => {
                        truth.held.insert(name, value.to_string());
                    }
                    (_, other) => return Err(wrong(format!("`{name}` of the truth can not be {other}"))),
                }
            }
        }
        other => return Err(wrong(format!("expected a regime or a map of columns, found {other}"))),
    }
    Ok(truth)
}

/// What auditing one item costs.
#[derive(Debug, Clone, PartialEq)]
pub enum Costs {
    /// Every audit the same.
    All(f64),
    /// These audits; the others cost nothing.
    Of(BTreeMap<String, f64>),
}

impl Serialize for Costs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All(cost) => cost.serialize(serializer),
            Self::Of(map) => map.serialize(serializer),
        }
    }
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its JSON Schema is used")]
pub enum CostsSchema {
    All(f64),
    Of(BTreeMap<String, f64>),
}

pub fn costs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Costs, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Object(map) => numbers(map).map(Costs::Of).map_err(serde::de::Error::custom),
        other => match other.as_f64() {
            Some(cost) => Ok(Costs::All(cost)),
            None => Err(serde::de::Error::custom(format!(
                "expected a number or a map from audit to number, found {other}"
            ))),
        },
    }
}

/// How likely each type is.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// All the same.
    Uniform,
    /// By the posterior mean of the flip share.
    Flips,
    /// These weights.
    Of(BTreeMap<String, f64>),
}

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Uniform => serializer.serialize_str("uniform"),
            Self::Flips => serializer.serialize_str("flips"),
            Self::Of(map) => map.serialize(serializer),
        }
    }
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its JSON Schema is used")]
pub enum PriorSchema {
    Named(PriorName),
    Of(BTreeMap<String, f64>),
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its JSON Schema is used")]
pub enum PriorName {
    Uniform,
    Flips,
}

pub fn prior<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Weights, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(name) if name == "uniform" => Ok(Weights::Uniform),
        Value::String(name) if name == "flips" => Ok(Weights::Flips),
        Value::Object(map) => numbers(map).map(Weights::Of).map_err(serde::de::Error::custom),
        other => Err(serde::de::Error::custom(format!(
            "expected `uniform`, `flips` or a map from type to weight, found {other}"
        ))),
    }
}

fn numbers(map: serde_json::Map<String, Value>) -> Result<BTreeMap<String, f64>, String> {
    let number = |(name, value): (String, Value)| match value.as_f64() {
        Some(number) => Ok((name, number)),
        None => Err(format!("`{name}` is {value}, and a number is needed")),
    };
    map.into_iter().map(number).collect()
}
