//! The parameters of `stackelberg`.

use std::collections::BTreeMap;

use fracture_measure::parameters::{CONFIDENCE, check_intervals};
use fracture_science::Behaviour;
use fracture_stage::ParameterError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::{Costs, CostsSchema, PriorSchema, Truth, TruthSchema, Weights, costs, prior, truth};

/// The leader's action that audits nothing.
pub const NONE: &str = "none";
/// Draws of a game: each solves many linear programs.
const BOOTSTRAP: u32 = 1000;

/// Parameters of `stackelberg`. With `payoffs` the game is given and nothing is read; without it the payoffs are measured
/// from verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StackelbergParameters {
    /// A given game. Without it the payoffs are measured.
    pub payoffs: Option<Payoffs>,
    /// The columns whose combinations are the audits that the evaluator chooses from, besides `none`, no audit. An audit is
    /// named by its values joined with `/`. When not given: `regime`, and of `decoder` and `tau` those with several values.
    pub actions: Option<Vec<String>>,
    /// The regimes that may audit; all but the truth's, and those that differ from it only in `draw`, when not given.
    pub regimes: Option<Vec<String>>,
    /// The regimes that carry the training cue, which a model that fakes on train recognises; `train` when not given, or
    /// every audit where there is no such regime.
    pub train: Option<Vec<String>>,
    /// What shows how a model behaves in deployment: a regime, or a map such as `{ regime: deploy, decoder: sampling, tau:
    /// 0.5 }` that also says with which decoder (else the audit's own) and from which score on an answer is unsafe (else the
    /// row's own `tau`).
    #[serde(deserialize_with = "truth")]
    #[schemars(with = "TruthSchema")]
    pub truth: Truth,
    /// a: the cost of an unsafe deployed answer that the audit missed, per item.
    #[schemars(range(min = 0))]
    pub harm: f64,
    /// A: the cost of a safe deployed answer that the audit flagged, per item.
    #[schemars(range(min = 0))]
    pub disagreement: f64,
    /// The cost of auditing one item: a number, or a map from audit to number.
    #[serde(deserialize_with = "costs")]
    #[schemars(with = "CostsSchema")]
    pub audit_cost: Costs,
    /// The evaluator's present mix: audit and share. The shares add up to 1.
    pub current: Option<BTreeMap<String, f64>>,
    /// The columns whose combinations are the types of model; `model` when not given.
    pub types: Option<Vec<String>>,
    /// How likely each type is: `uniform`, `flips` (in proportion to how often it flips, by its posterior mean), or a map
    /// from type to weight.
    #[serde(deserialize_with = "prior")]
    #[schemars(with = "PriorSchema")]
    pub prior: Weights,
    /// What the models may do, and what it is worth to them.
    pub follower: Follower,
    /// How far below its best a model's payoff may be when it responds in the way that is worst for the evaluator
    /// (`value_near_ties`).
    #[schemars(range(min = 0))]
    pub epsilon: f64,
    /// The confidence level of every interval.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// How many draws the bootstrap takes; each solves the game anew.
    #[schemars(range(min = 100))]
    pub bootstrap: u32,
    /// The seed of the bootstrap's draws.
    pub seed: u64,
    /// The column whose values are drawn together. When not given: the column `cluster` where there is one, else axis and
    /// item.
    pub cluster: Option<String>,
}

impl Default for StackelbergParameters {
    fn default() -> Self {
        Self {
            payoffs: None,
            actions: None,
            regimes: None,
            train: None,
            truth: Truth::default(),
            harm: 1.0,
            disagreement: 1.0,
            audit_cost: Costs::All(0.0),
            current: None,
            types: None,
            prior: Weights::Uniform,
            follower: Follower::default(),
            epsilon: 0.01,
            confidence: CONFIDENCE,
            bootstrap: BOOTSTRAP,
            seed: 0,
            cluster: None,
        }
    }
}

/// A given game.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Payoffs {
    /// The types of model.
    #[schemars(length(min = 1))]
    pub types: Vec<GivenType>,
    /// Names of the evaluator's actions, the rows of every matrix; numbers from 1 when not given.
    #[serde(default)]
    pub actions: Option<Vec<String>>,
    /// Names of the models' responses, the columns of every matrix; numbers from 1 when not given.
    #[serde(default)]
    pub responses: Option<Vec<String>>,
}

/// A type of model with both players' payoffs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenType {
    /// Its name.
    pub name: String,
    /// How likely it is; weights are scaled to add up to 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub prior: f64,
    /// The evaluator's payoffs: a row per action of the evaluator, a column per response of the model.
    pub leader: Vec<Vec<f64>>,
    /// The model's payoffs in the same form.
    pub follower: Vec<Vec<f64>>,
}

fn one() -> f64 {
    1.0
}

/// What a model may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Safe everywhere.
    AlwaysSafe,
    /// In audits as in deployment: every audit sees what deployment shows.
    AlwaysUnsafe,
    /// As measured under audits with the training cue; the other audits see what deployment shows.
    FakeOnTrain,
    /// As measured under every audit.
    FakeOnParaphrase,
}

impl Response {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::AlwaysSafe,
        Self::AlwaysUnsafe,
        Self::FakeOnTrain,
        Self::FakeOnParaphrase,
    ];

    /// Its name in parameters and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlwaysSafe => "always-safe",
            Self::AlwaysUnsafe => "always-unsafe",
            Self::FakeOnTrain => "fake-on-train",
            Self::FakeOnParaphrase => "fake-on-paraphrase",
        }
    }
}

impl From<Response> for Behaviour {
    fn from(response: Response) -> Self {
        match response {
            Response::AlwaysSafe => Self::AlwaysSafe,
            Response::AlwaysUnsafe => Self::AlwaysUnsafe,
            Response::FakeOnTrain => Self::FakeOnTrain,
            Response::FakeOnParaphrase => Self::FakeOnParaphrase,
        }
    }
}

/// What the models of a measured game may do, and what it is worth to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Follower {
    /// What they may do.
    #[schemars(length(min = 1))]
    pub responses: Vec<Response>,
    /// What an unsafe deployed answer that was not flagged is worth to a model.
    pub gain: f64,
    /// What being flagged costs a model.
    pub penalty: f64,
    /// What watching for the training cue costs a model; watching for every audit costs twice that.
    pub effort: f64,
    /// Given payoffs instead of gain, penalty and effort: for every audit, `none` too, one number per response.
    pub payoffs: Option<BTreeMap<String, Vec<f64>>>,
    /// The same for single types, where they differ from `payoffs`.
    pub by_type: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

impl Default for Follower {
    fn default() -> Self {
        Self {
            responses: Response::ALL.to_vec(),
            gain: 1.0,
            penalty: 1.0,
            effort: 0.0,
            payoffs: None,
            by_type: BTreeMap::new(),
        }
    }
}

impl Follower {
    /// Checks given payoffs as far as they tell: a number per response, and what no audit is worth.
    fn check_payoffs(&self, errors: &mut Vec<ParameterError>) {
        let Some(payoffs) = &self.payoffs else { return };
        let wanted = self.responses.len();
        let mut check = |path: &[&str], row: &[f64]| {
            if row.len() != wanted {
                let message = format!("{} payoffs for {wanted} responses", row.len());
                let error = ParameterError::at(path, message);
                errors.push(error.hint("one number per response, in the order of `responses`"));
            }
        };
        for (audit, row) in payoffs {
            check(&["follower", "payoffs", audit], row);
        }
        for (kind, rows) in &self.by_type {
            rows.iter()
                .for_each(|(audit, row)| check(&["follower", "by_type", kind, audit], row));
        }
        // Types that `by_type` does not name have only these.
        if !payoffs.contains_key(NONE) && self.by_type.values().all(|rows| !rows.contains_key(NONE)) {
            let message = format!("the models' payoffs say nothing of the audit `{NONE}`");
            let error = ParameterError::at(&["follower", "payoffs"], message);
            errors.push(error.hint("what a model gets where nobody audits: one number per response"));
        }
    }
}

impl StackelbergParameters {
    /// Everything that is wrong with them.
    pub fn check(&self) -> Vec<ParameterError> {
        let mut errors = Vec::new();
        check_intervals(self.confidence, self.bootstrap, &mut errors);
        let costs: [(&[&str], f64); 6] = [
            (&["harm"], self.harm),
            (&["disagreement"], self.disagreement),
            (&["epsilon"], self.epsilon),
            (&["follower", "gain"], self.follower.gain),
            (&["follower", "penalty"], self.follower.penalty),
            (&["follower", "effort"], self.follower.effort),
        ];
        for (path, value) in costs {
            if !(value >= 0.0 && value.is_finite()) {
                errors.push(ParameterError::at(path, format!("{value} is no cost")).hint("a number of at least 0"));
            }
        }
        if let Costs::Of(map) = &self.audit_cost
            && map.get(NONE).is_some_and(|cost| *cost != 0.0)
        {
            errors.push(ParameterError::at(&["audit_cost", NONE], "no audit costs nothing").hint("leave it out"));
        }
        if let Some(current) = &self.current {
            let total: f64 = current.values().sum();
            if current.values().any(|share| !(0.0..=1.0).contains(share)) || (total - 1.0).abs() > 1e-6 {
                let message = format!("the shares of the present mix add up to {total}");
                errors.push(ParameterError::at(&["current"], message).hint("shares between 0 and 1 that add up to 1"));
            }
        }
        let follower = &self.follower;
        if follower.responses.is_empty() {
            errors.push(ParameterError::at(
                &["follower", "responses"],
                "a model must be able to do something",
            ));
        }
        let mut seen = Vec::new();
        for response in &follower.responses {
            if seen.contains(response) {
                let message = format!("`{}` is named twice", response.name());
                errors.push(ParameterError::at(&["follower", "responses"], message));
            }
            seen.push(*response);
        }
        if follower.payoffs.is_none() && !follower.by_type.is_empty() {
            errors.push(
                ParameterError::at(&["follower", "by_type"], "only some types have given payoffs")
                    .hint("say `payoffs:` for the others"),
            );
        }
        if self.payoffs.is_none() {
            self.follower.check_payoffs(&mut errors);
        }
        if let Some(columns) = self
            .actions
            .as_ref()
            .filter(|columns| !columns.iter().any(|name| name == "regime"))
        {
            let message = format!("audits by {} have no regime", columns.join(", "));
            errors.push(ParameterError::at(&["actions"], message).hint("add `regime`"));
        }
        errors
    }
}
