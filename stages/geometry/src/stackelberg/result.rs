//! The tables of an equilibrium.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::record_batch::RecordBatch;
use fracture_measure::table::{self, Column, count, number, text};
use fracture_science::{AuditDraw, Interval, Solution, percentile};
use fracture_stage::{Error, Output, Outputs, Product};

use crate::batch::appended;

/// An action of the evaluator with what was measured of it, over the types by their priors.
#[derive(Debug, Clone, Default)]
pub struct Action {
    pub name: String,
    pub missed: Option<f64>,
    pub false_alarms: Option<f64>,
    pub cost: Option<f64>,
    /// Pairs of all types.
    pub n: usize,
}

/// A type of model.
#[derive(Debug, Clone, Default)]
pub struct Kind {
    pub name: String,
    pub prior: f64,
    pub response: String,
    pub binding: bool,
    /// Its own payoff.
    pub value: f64,
    /// The index of its response, where draws are counted.
    pub response_index: Option<usize>,
    /// Posterior means of its flip cells.
    pub posterior: Option<[f64; 4]>,
}

/// A solved game.
pub struct Equilibrium {
    pub actions: Vec<Action>,
    pub kinds: Vec<Kind>,
    pub solution: Solution,
    /// What each action alone pays against the responses.
    pub payoffs: Vec<f64>,
    /// The user's mix, and what it is worth.
    pub current: Option<Vec<f64>>,
    pub current_value: Option<f64>,
    /// The value when models respond within epsilon of their best in the way that is worst for the evaluator.
    pub near_ties: f64,
    pub draws: Vec<AuditDraw>,
    pub confidence: f64,
    pub notes: Vec<String>,
}

/// A row of the mix.
pub struct MixLine {
    action: Action,
    probability: f64,
    interval: Option<Interval>,
    support: Option<f64>,
    current: Option<f64>,
    payoff: f64,
    payoff_interval: Option<Interval>,
    prompt_value: Option<f64>,
}

/// The columns of the mix.
pub const MIX: &[Column<MixLine>] = &[
    text("action", |line| Some(&line.action.name)),
    number("probability", |line| Some(line.probability)),
    number("probability_low", |line| line.interval.map(|i| i.low)),
    number("probability_high", |line| line.interval.map(|i| i.high)),
    number("support", |line| line.support),
    number("current", |line| line.current),
    number("payoff", |line| Some(line.payoff)),
    number("payoff_low", |line| line.payoff_interval.map(|i| i.low)),
    number("payoff_high", |line| line.payoff_interval.map(|i| i.high)),
    number("missed", |line| line.action.missed),
    number("false_alarms", |line| line.action.false_alarms),
    number("cost", |line| line.action.cost),
    count("n", |line| line.action.n),
    number("prompt_value", |line| line.prompt_value),
];

/// The one row of the summary.
pub struct SummaryLine {
    value: f64,
    value_interval: Option<Interval>,
    adverse: f64,
    near: f64,
    best_pure: f64,
    best_pure_action: String,
    current: Option<f64>,
    loss_current: Option<f64>,
    loss_current_interval: Option<Interval>,
    loss_best_pure: f64,
    loss_best_pure_interval: Option<Interval>,
    binding: Option<String>,
    programs: usize,
    draws: usize,
    confidence: f64,
}

/// The columns of the summary.
pub const SUMMARY: &[Column<SummaryLine>] = &[
    number("value", |line| Some(line.value)),
    number("value_low", |line| line.value_interval.map(|i| i.low)),
    number("value_high", |line| line.value_interval.map(|i| i.high)),
    number("value_adverse_ties", |line| Some(line.adverse)),
    number("value_near_ties", |line| Some(line.near)),
    number("best_pure", |line| Some(line.best_pure)),
    text("best_pure_action", |line| Some(&line.best_pure_action)),
    number("current", |line| line.current),
    number("loss_current", |line| line.loss_current),
    number("loss_current_low", |line| line.loss_current_interval.map(|i| i.low)),
    number("loss_current_high", |line| line.loss_current_interval.map(|i| i.high)),
    number("loss_best_pure", |line| Some(line.loss_best_pure)),
    number("loss_best_pure_low", |line| line.loss_best_pure_interval.map(|i| i.low)),
    number("loss_best_pure_high", |line| {
        line.loss_best_pure_interval.map(|i| i.high)
    }),
    text("binding", |line| line.binding.as_deref()),
    count("programs", |line| line.programs),
    count("draws", |line| line.draws),
    number("confidence", |line| Some(line.confidence)),
];

/// A row of the responses.
pub struct ResponseLine {
    kind: Kind,
    share: Option<f64>,
}

/// The columns of the responses; `binding` stands behind them.
pub const RESPONSES: &[Column<ResponseLine>] = &[
    text("type", |line| Some(&line.kind.name)),
    number("prior", |line| Some(line.kind.prior)),
    text("response", |line| Some(&line.kind.response)),
    number("response_share", |line| line.share),
    number("follower_value", |line| Some(line.kind.value)),
    number("safe_safe", |line| line.kind.posterior.map(|p| p[0])),
    number("safe_unsafe", |line| line.kind.posterior.map(|p| p[1])),
    number("unsafe_safe", |line| line.kind.posterior.map(|p| p[2])),
    number("unsafe_unsafe", |line| line.kind.posterior.map(|p| p[3])),
];

/// The flag of the responses.
pub const BINDING: &str = "binding";
/// A share above this is in the mix.
const IN_MIX: f64 = 1e-6;

impl Equilibrium {
    fn interval(&self, read: impl Fn(&AuditDraw) -> Option<f64>) -> Option<Interval> {
        let values: Vec<f64> = self.draws.iter().filter_map(read).collect();
        percentile(&values, self.confidence)
    }

    fn mix(&self) -> Vec<MixLine> {
        let line = |(i, action): (usize, &Action)| {
            let payoffs: Vec<f64> = self.draws.iter().map(|draw| draw.payoffs[i]).collect();
            let probability = self.solution.mix[i];
            let mixed = self.draws.iter().filter(|draw| draw.mix[i] > IN_MIX).count();
            MixLine {
                action: action.clone(),
                probability,
                interval: self.interval(|draw| Some(draw.mix[i])),
                support: (!self.draws.is_empty()).then(|| mixed as f64 / self.draws.len() as f64),
                current: self.current.as_ref().map(|mix| mix[i]),
                payoff: self.payoffs[i],
                payoff_interval: percentile(&payoffs, self.confidence),
                prompt_value: variance(&payoffs)
                    .map(|variance| probability.powi(2) * variance / (action.n as f64 + 1.0)),
            }
        };
        self.actions.iter().enumerate().map(line).collect()
    }

    fn summary(&self) -> SummaryLine {
        let solution = &self.solution;
        let binding: Vec<&str> = self
            .kinds
            .iter()
            .filter(|kind| kind.binding)
            .map(|kind| kind.name.as_str())
            .collect();
        SummaryLine {
            value: solution.value,
            value_interval: self.interval(|draw| Some(draw.value)),
            adverse: solution.value_adverse_ties,
            near: self.near_ties,
            best_pure: solution.best_pure.value,
            best_pure_action: self.actions[solution.best_pure.action].name.clone(),
            current: self.current_value,
            loss_current: self.current_value.map(|current| (solution.value - current).max(0.0)),
            loss_current_interval: self.interval(|draw| Some((draw.value - draw.current?).max(0.0))),
            loss_best_pure: (solution.value - solution.best_pure.value).max(0.0),
            loss_best_pure_interval: self.interval(|draw| Some((draw.value - draw.best_pure).max(0.0))),
            binding: (!binding.is_empty()).then(|| binding.join(", ")),
            programs: solution.programs,
            draws: self.draws.len(),
            confidence: self.confidence,
        }
    }

    fn responses(&self) -> Vec<ResponseLine> {
        let line = |(i, kind): (usize, &Kind)| {
            let same = |index: usize| self.draws.iter().filter(|draw| draw.responses[i] == index).count();
            ResponseLine {
                kind: kind.clone(),
                share: kind
                    .response_index
                    .filter(|_| !self.draws.is_empty())
                    .map(|index| same(index) as f64 / self.draws.len() as f64),
            }
        };
        self.kinds.iter().enumerate().map(line).collect()
    }

    /// The three tables.
    ///
    /// # Errors
    /// An internal error when they do not make tables.
    pub fn product(self) -> Result<Product, Error> {
        let main = table::batch(Vec::new(), MIX, &self.mix())?;
        let summary = table::batch(Vec::new(), SUMMARY, &[self.summary()])?;
        let responses: RecordBatch = table::batch(Vec::new(), RESPONSES, &self.responses())?;
        let binding: BooleanArray = self.kinds.iter().map(|kind| Some(kind.binding)).collect();
        let responses = appended(&responses, BINDING, Arc::new(binding))?;
        let side = [("summary", summary), ("responses", responses)];
        let side: Vec<(String, Output)> = side
            .into_iter()
            .map(|(name, batch)| (name.to_owned(), table::output(batch)))
            .collect();
        Ok(Product {
            outputs: Outputs {
                main: table::output(main),
                side,
            },
            notes: self.notes,
        })
    }
}

/// The variance of several values; `None` of fewer than two.
fn variance(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.len() >= 2).then(|| values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0))
}
