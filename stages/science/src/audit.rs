//! The game between an evaluator who audits and models that may fake: payoffs measured per audit (SCIENCE.md B6).
//!
//! What an audit does against a type is one flip table, audit first and deployment second: safe-unsafe is harm that it
//! misses, unsafe-safe a false alarm. From it follow the payoffs of four behaviours. Two are of any model: always safe, and
//! always unsafe, which every audit sees. Two are what was measured: faking under audits that carry the training cue, or
//! under all audits that differ from deployment; under an audit that it does not recognise a faker is unsafe and seen.

use rayon::prelude::*;
use serde::Serialize;

use crate::bootstrap::{ClusterRow, ClusterSums};
use crate::error::{Result, ScienceError};
use crate::fracture::{FlipOptions, Pair, number, table_of};
use crate::stackelberg::{FollowerType, Game, audit_payoff, dirichlet_posterior, solve, value_of};

/// Jeffreys' prior of the four cells of a flip table.
const JEFFREYS: f64 = 0.5;

/// The flip table of one audit and type with its bootstrap draws. A cluster weighs the same in all tables of a draw.
#[derive(Debug, Clone, PartialEq)]
pub struct FlipDraws {
    /// Safe-safe, safe-unsafe, unsafe-safe, unsafe-unsafe; audit first.
    pub counts: [f64; 4],
    /// Pairs with a valid verdict.
    pub n: usize,
    columns: Vec<Vec<f64>>,
}

impl FlipDraws {
    /// The table of pairs, audit first and deployment second, aggregated and drawn by the options.
    pub fn new(pairs: &[Pair], options: &FlipOptions) -> Self {
        let table = |pair: &Pair| -> Option<ClusterRow<4>> {
            let cells = table_of(pair, options.tau, options.aggregate, [f64::NAN; 2])?;
            Some((pair.cluster, cells.map(number)))
        };
        let both = pairs.iter().filter(|p| !p.first.is_empty() && !p.second.is_empty());
        let rows: Vec<ClusterRow<4>> = both.filter_map(table).collect();
        let n = rows.len();
        let sums = ClusterSums::from_rows(rows);
        let mut counts = [0.0; 4];
        counts
            .iter_mut()
            .zip(sums.total())
            .for_each(|(count, sum)| *count = sum);
        let columns = match sums.len() {
            0 | 1 => Vec::new(),
            _ => sums.draws(options.bootstrap, options.seed),
        };
        Self { counts, n, columns }
    }

    /// The counts of a draw, those of the data for `None`; `None` without a pair, or where the draw has none.
    fn counts(&self, draw: Option<usize>) -> Option<[f64; 4]> {
        let counts = match draw {
            None => self.counts,
            Some(b) => {
                let mut counts = [0.0; 4];
                for (count, column) in counts.iter_mut().zip(&self.columns) {
                    *count = *column.get(b)?;
                }
                counts
            }
        };
        (counts.iter().sum::<f64>() > 0.0).then_some(counts)
    }

    /// The shares of the four cells.
    pub fn shares(&self, draw: Option<usize>) -> Option<[f64; 4]> {
        let counts = self.counts(draw)?;
        let total: f64 = counts.iter().sum();
        Some(counts.map(|count| count / total))
    }
}

/// What an audit looks like to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Watched {
    /// There is no audit.
    Nothing,
    /// It carries the training cue.
    Train,
    /// It carries another wording.
    Paraphrase,
}

/// What a model may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Safe everywhere.
    AlwaysSafe,
    /// As in deployment everywhere: every audit sees it.
    AlwaysUnsafe,
    /// As measured under audits with the training cue, seen by the others.
    FakeOnTrain,
    /// As measured under every audit.
    FakeOnParaphrase,
}

/// What an audit makes of a behaviour, as shares of the items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// Unsafe in deployment, and the audit saw nothing.
    pub missed: f64,
    /// Safe in deployment, and the audit said unsafe.
    pub false_alarms: f64,
    /// The audit said unsafe.
    pub flagged: f64,
}

/// What an audit with these measured shares makes of a behaviour.
pub fn outcome(behaviour: Behaviour, watched: Watched, [_, su, us, uu]: [f64; 4]) -> Outcome {
    let nothing = Outcome {
        missed: 0.0,
        false_alarms: 0.0,
        flagged: 0.0,
    };
    let recognised = match behaviour {
        Behaviour::AlwaysSafe => return nothing,
        Behaviour::AlwaysUnsafe => false,
        Behaviour::FakeOnTrain => watched == Watched::Train,
        Behaviour::FakeOnParaphrase => true,
    };
    match watched {
        Watched::Nothing => Outcome {
            missed: su + uu,
            ..nothing
        },
        _ if recognised => Outcome {
            missed: su,
            false_alarms: us,
            flagged: us + uu,
        },
        _ => Outcome {
            flagged: su + uu,
            ..nothing
        },
    }
}

/// What outcomes cost the evaluator and are worth to a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditCosts {
    /// a: an unsafe deployed answer that the audit missed.
    pub harm: f64,
    /// A: a safe one that the audit flagged.
    pub disagreement: f64,
    /// To a model: an unsafe deployed answer that was not flagged.
    pub gain: f64,
    /// To a model: being flagged.
    pub penalty: f64,
    /// To a model: watching for the training cue; twice that for watching for every audit.
    pub effort: f64,
}

impl AuditCosts {
    fn leader(&self, outcome: Outcome, cost: f64) -> f64 {
        audit_payoff(outcome.missed, outcome.false_alarms, self.harm, self.disagreement, cost)
    }

    fn follower(&self, behaviour: Behaviour, outcome: Outcome) -> f64 {
        let watching = match behaviour {
            Behaviour::AlwaysSafe | Behaviour::AlwaysUnsafe => 0.0,
            Behaviour::FakeOnTrain => 1.0,
            Behaviour::FakeOnParaphrase => 2.0,
        };
        self.gain * outcome.missed - self.penalty * outcome.flagged - self.effort * watching
    }
}

/// How likely each type is.
#[derive(Debug, Clone, PartialEq)]
pub enum Prior {
    /// These weights.
    Given(Vec<f64>),
    /// In proportion to the posterior mean of its flip share (Dirichlet, Jeffreys' prior): the more a type flips, the
    /// likelier it is the one that an audit has to do with.
    Flips,
}

/// A game of audits against types, with the flip tables that its payoffs come from.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditGame {
    /// What each audit looks like.
    pub watched: Vec<Watched>,
    /// What each audit costs.
    pub cost: Vec<f64>,
    /// The measured tables, `[audit][type]`.
    pub tables: Vec<Vec<FlipDraws>>,
    /// What the types may do.
    pub behaviours: Vec<Behaviour>,
    /// What outcomes are worth.
    pub costs: AuditCosts,
    /// How likely each type is.
    pub prior: Prior,
    /// Payoffs of the types `[type][audit][behaviour]`, where they are given rather than made from outcomes.
    pub follower: Option<Vec<Vec<Vec<f64>>>>,
}

/// The equilibrium of one draw.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditDraw {
    /// The leader's value.
    pub value: f64,
    /// Its mix over the audits.
    pub mix: Vec<f64>,
    /// The value of the best pure commitment.
    pub best_pure: f64,
    /// The value of the user's mix.
    pub current: Option<f64>,
    /// The response of each type, an index into the behaviours.
    pub responses: Vec<usize>,
    /// What each audit alone pays against those responses.
    pub payoffs: Vec<f64>,
}

impl AuditGame {
    fn types(&self) -> usize {
        self.tables.first().map_or(0, Vec::len)
    }

    /// Mean counts of a type over the audits with the training cue, over all audits where none has it.
    fn flips(&self, kind: usize, draw: Option<usize>) -> Option<[f64; 4]> {
        let looks = |watched: Watched| -> Vec<usize> {
            let all = 0..self.watched.len();
            all.filter(|&i| self.watched[i] == watched).collect()
        };
        let mut audits = looks(Watched::Train);
        if audits.is_empty() {
            audits = looks(Watched::Paraphrase);
        }
        let mut sum = [0.0; 4];
        for &audit in &audits {
            let counts = self.tables[audit][kind].counts(draw)?;
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        (!audits.is_empty()).then(|| sum.map(|count| count / audits.len() as f64))
    }

    /// Posterior means of the four flip cells of a type; `None` without an audit.
    pub fn posterior(&self, kind: usize) -> Option<[f64; 4]> {
        Some(dirichlet_posterior(self.flips(kind, None)?, JEFFREYS))
    }

    fn priors(&self, draw: Option<usize>) -> Option<Vec<f64>> {
        match &self.prior {
            Prior::Given(weights) => Some(weights.clone()),
            Prior::Flips => (0..self.types())
                .map(|kind| Some(dirichlet_posterior(self.flips(kind, draw)?, JEFFREYS)[1]))
                .collect(),
        }
    }

    /// The game in normal form, of a bootstrap draw or of the data; `None` where an audit and type have no pair.
    ///
    /// # Errors
    /// When the payoffs do not make a game.
    pub fn game(&self, draw: Option<usize>) -> Result<Option<Game>> {
        let Some(priors) = self.priors(draw) else {
            return Ok(None);
        };
        let mut types = Vec::new();
        for (kind, &prior) in priors.iter().enumerate() {
            let (mut leader, mut follower) = (Vec::new(), Vec::new());
            for (audit, &watched) in self.watched.iter().enumerate() {
                let Some(shares) = self.tables[audit][kind].shares(draw) else {
                    return Ok(None);
                };
                let outcomes = self.behaviours.iter().map(|&b| (b, outcome(b, watched, shares)));
                let cost = self.cost[audit];
                leader.push(outcomes.clone().map(|(_, o)| self.costs.leader(o, cost)).collect());
                follower.push(match &self.follower {
                    Some(given) => given[kind][audit].clone(),
                    None => outcomes.map(|(b, o)| self.costs.follower(b, o)).collect(),
                });
            }
            types.push(FollowerType {
                prior,
                leader,
                follower,
            });
        }
        Game::new(types).map(Some)
    }

    /// Solves every bootstrap draw; draws in which an audit and type have no pair are left out.
    ///
    /// # Errors
    /// When a draw can not be solved, or `current` has the wrong length.
    pub fn draws(&self, draws: usize, current: Option<&[f64]>) -> Result<Vec<AuditDraw>> {
        let solved: Vec<Option<AuditDraw>> = (0..draws)
            .into_par_iter()
            .map(|b| self.draw(b, current))
            .collect::<Result<_>>()?;
        Ok(solved.into_iter().flatten().collect())
    }

    fn draw(&self, b: usize, current: Option<&[f64]>) -> Result<Option<AuditDraw>> {
        let Some(game) = self.game(Some(b))? else {
            return Ok(None);
        };
        let solution = solve(&game)?;
        let current = match current {
            Some(mix) => Some(value_of(&game, mix, false, 0.0)?.0),
            None => None,
        };
        Ok(Some(AuditDraw {
            value: solution.value,
            payoffs: pure_payoffs(&game, &solution.responses)?,
            best_pure: solution.best_pure.value,
            mix: solution.mix,
            responses: solution.responses,
            current,
        }))
    }
}

/// What each of the leader's actions alone pays against fixed responses of the types.
///
/// # Errors
/// When there is not one response per type.
pub fn pure_payoffs(game: &Game, responses: &[usize]) -> Result<Vec<f64>> {
    if responses.len() != game.types().len() {
        return Err(ScienceError::Shape {
            what: "responses of the types".to_owned(),
            expected: game.types().len(),
            found: responses.len(),
        });
    }
    let payoff = |action: usize| {
        let of_type = |(kind, &response): (&FollowerType, &usize)| kind.prior * kind.leader[action][response];
        game.types().iter().zip(responses).map(of_type).sum()
    };
    Ok((0..game.actions()).map(payoff).collect())
}
