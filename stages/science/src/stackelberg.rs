//! Bayesian Stackelberg games: the evaluator commits to a mix of audits, every type of model best-responds
//! (SCIENCE.md B6). Solved by multiple linear programs (Conitzer and Sandholm 2006), one per profile of responses. Profiles
//! are extended type by type: where the types so far can not respond so to any mix, or the best that the others could do for
//! the leader is no better than what was found, all profiles that begin so are left out.

use microlp::{ComparisonOp, OptimizationDirection, Problem};
use serde::Serialize;

use crate::error::{Result, ScienceError};

/// Payoffs closer than this are a tie. Relative to the payoffs' range.
const TIE: f64 = 1e-9;

/// The most linear programs that are solved for one game.
const MOST_PROGRAMS: usize = 1 << 16;

/// One type of follower with its payoffs `[leader action][follower action]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowerType {
    /// Prior probability of the type.
    pub prior: f64,
    /// Payoffs of the leader against this type.
    pub leader: Vec<Vec<f64>>,
    /// Payoffs of this type.
    pub follower: Vec<Vec<f64>>,
}

/// A game in normal form. Types may have different numbers of actions.
#[derive(Debug, Clone, PartialEq)]
pub struct Game {
    types: Vec<FollowerType>,
    actions: usize,
    /// The largest difference between two payoffs of one player and type, the scale of a tie.
    range: f64,
}

/// The best commitment without mixing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PureCommitment {
    /// The leader's action.
    pub action: usize,
    /// The leader's value, ties in its favour.
    pub value: f64,
}

/// A strong Stackelberg equilibrium: ties are broken in the leader's favour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Solution {
    /// The leader's value.
    pub value: f64,
    /// The leader's mix over its actions.
    pub mix: Vec<f64>,
    /// The response of each type.
    pub responses: Vec<usize>,
    /// Each type's own payoff.
    pub follower_values: Vec<f64>,
    /// The leader's value under the same mix if ties were broken against it.
    pub value_adverse_ties: f64,
    /// Types that are indifferent between their response and another action: where the commitment binds.
    pub binding: Vec<bool>,
    /// The best pure commitment.
    pub best_pure: PureCommitment,
    /// Linear programs solved.
    pub programs: usize,
}

impl Game {
    /// Checks the shapes and scales the priors to sum to 1.
    ///
    /// # Errors
    /// Without types or actions, with unequal shapes, with a payoff that is not finite or priors that are no weights.
    pub fn new(mut types: Vec<FollowerType>) -> Result<Self> {
        let actions = types.first().map_or(0, |t| t.leader.len());
        if actions == 0 {
            return Err(ScienceError::Unsolvable(
                "a game needs at least one type and one leader action".to_owned(),
            ));
        }
        let total: f64 = types.iter().map(|t| t.prior).sum();
        if !(total.is_finite() && total > 0.0 && types.iter().all(|t| t.prior >= 0.0)) {
            return Err(ScienceError::Unsolvable(format!(
                "the types' priors must be weights with a sum above 0, not {total}"
            )));
        }
        let mut range = 0.0f64;
        for (index, kind) in types.iter_mut().enumerate() {
            kind.prior /= total;
            let responses = kind.leader[..].first().map_or(0, Vec::len);
            for (name, payoffs) in [("leader", &kind.leader), ("follower", &kind.follower)] {
                let what = |part: &str| format!("payoffs of the {name} against type {index}: {part}");
                expect(what("rows (leader actions)"), actions, payoffs.len())?;
                for row in payoffs {
                    expect(what("columns (follower actions)"), responses.max(1), row.len())?;
                }
                let values = || payoffs.iter().flatten().copied();
                if values().any(|x| !x.is_finite()) {
                    return Err(ScienceError::Unsolvable(what("a payoff is not a finite number")));
                }
                let extent = values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
                range = range.max(extent);
            }
        }
        Ok(Self { types, actions, range })
    }

    /// Number of the leader's actions.
    pub fn actions(&self) -> usize {
        self.actions
    }

    /// The types, priors scaled to sum to 1.
    pub fn types(&self) -> &[FollowerType] {
        &self.types
    }

    fn tie(&self) -> f64 {
        TIE * self.range.max(1e-300)
    }

    /// The best mix under which the response in `profile` of every type that it names is a best response; `None` if there is
    /// none. The other types respond as the leader likes best: with all types named the value is the profile's, else it is
    /// an upper bound for all profiles that begin so.
    fn program(&self, profile: &[usize]) -> Result<Option<(f64, Vec<f64>)>> {
        let mut problem = Problem::new(OptimizationDirection::Maximize);
        // Scaled to payoffs of about 1, so that the solver's absolute tolerances mean the same in every currency.
        let scale = if self.range > 0.0 { 1.0 / self.range } else { 1.0 };
        let worth = |i: usize| -> f64 {
            let named = self.types.iter().zip(profile).map(|(t, &j)| t.prior * t.leader[i][j]);
            let others = self.types.iter().skip(profile.len());
            let best = |t: &FollowerType| t.leader[i].iter().copied().fold(f64::NEG_INFINITY, f64::max);
            named.chain(others.map(|t| t.prior * best(t))).sum()
        };
        let mix: Vec<_> = (0..self.actions)
            .map(|i| problem.add_var(worth(i) * scale, (0.0, 1.0)))
            .collect();
        let ones: Vec<_> = mix.iter().map(|&x| (x, 1.0)).collect();
        problem.add_constraint(&ones[..], ComparisonOp::Eq, 1.0);
        for (kind, &j) in self.types.iter().zip(profile) {
            for other in (0..kind.follower[0].len()).filter(|&other| other != j) {
                let row: Vec<_> = mix
                    .iter()
                    .zip(&kind.follower)
                    .map(|(&x, payoffs)| (x, (payoffs[j] - payoffs[other]) * scale))
                    .filter(|term| term.1 != 0.0)
                    .collect();
                if !row.is_empty() {
                    problem.add_constraint(&row[..], ComparisonOp::Ge, 0.0);
                }
            }
        }
        let solution = match problem.solve() {
            Ok(solved) => solved.into_solution(),
            Err(microlp::Error::Infeasible) => return Ok(None),
            Err(error) => return Err(ScienceError::Unsolvable(format!("the linear program failed: {error}"))),
        };
        let Ok(solution) = solution else {
            return Err(ScienceError::Unsolvable("the linear program was stopped".to_owned()));
        };
        let mix: Vec<f64> = mix.iter().map(|&x| solution.var_value(x).clamp(0.0, 1.0)).collect();
        let total: f64 = mix.iter().sum();
        let mix: Vec<f64> = mix.into_iter().map(|x| x / total).collect();
        let value = mix.iter().enumerate().map(|(i, x)| x * worth(i)).sum();
        Ok(Some((value, mix)))
    }
}

fn expect(what: String, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(ScienceError::Shape { what, expected, found })
    }
}

/// Actions that no other action beats against every leader action.
fn undominated(follower: &[Vec<f64>]) -> Vec<usize> {
    let beaten = |j: usize| (0..follower[0].len()).any(|k| follower.iter().all(|row| row[k] > row[j]));
    (0..follower[0].len()).filter(|&j| !beaten(j)).collect()
}

/// The leader's value of a mix, the types' responses and their values. Among best responses (within `slack` of the best,
/// 0 for exact ties) each type takes the leader's favourite, or under `adverse` the one the leader likes least.
///
/// # Errors
/// When the mix has the wrong length.
pub fn value_of(game: &Game, mix: &[f64], adverse: bool, slack: f64) -> Result<(f64, Vec<usize>, Vec<f64>)> {
    expect("the leader's mix".to_owned(), game.actions, mix.len())?;
    let (mut value, mut responses, mut follower_values) = (0.0, Vec::new(), Vec::new());
    for kind in &game.types {
        let expected =
            |payoffs: &[Vec<f64>], j: usize| -> f64 { mix.iter().zip(payoffs).map(|(x, row)| x * row[j]).sum() };
        let own: Vec<f64> = (0..kind.follower[0].len())
            .map(|j| expected(&kind.follower, j))
            .collect();
        let best = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut choice: Option<(usize, f64)> = None;
        for j in (0..own.len()).filter(|&j| own[j] >= best - slack.max(0.0) - game.tie()) {
            let worth = expected(&kind.leader, j);
            let better = choice.is_none_or(|(_, held)| {
                let gain = if adverse { held - worth } else { worth - held };
                gain > game.tie()
            });
            if better {
                choice = Some((j, worth));
            }
        }
        let (j, worth) = choice.unwrap_or((0, f64::NAN));
        value += kind.prior * worth;
        responses.push(j);
        follower_values.push(own[j]);
    }
    Ok((value, responses, follower_values))
}

/// A search through the profiles of responses.
struct Search<'a> {
    game: &'a Game,
    /// The responses of each type that no other one strictly dominates: no mix makes those best.
    open: Vec<Vec<usize>>,
    best: Option<(f64, Vec<f64>)>,
    programs: usize,
}

impl Search<'_> {
    /// Tries all profiles that begin with `profile`, the most promising extension first.
    fn extend(&mut self, profile: &[usize]) -> Result<()> {
        let Some(open) = self.open.get(profile.len()).cloned() else {
            return Ok(());
        };
        let mut extended: Vec<(f64, Vec<f64>, Vec<usize>)> = Vec::new();
        for j in open {
            let longer: Vec<usize> = profile.iter().copied().chain([j]).collect();
            self.programs += 1;
            if self.programs > MOST_PROGRAMS {
                return Err(ScienceError::Unsolvable(format!(
                    "the game needs more than {MOST_PROGRAMS} linear programs; use fewer types or actions"
                )));
            }
            if let Some((value, mix)) = self.game.program(&longer)? {
                extended.push((value, mix, longer));
            }
        }
        // A stable sort: among equal values the first profile in order.
        extended.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (value, mix, longer) in extended {
            if self.best.as_ref().is_some_and(|held| value <= held.0 + self.game.tie()) {
                continue;
            }
            if longer.len() == self.open.len() {
                self.best = Some((value, mix));
            } else {
                self.extend(&longer)?;
            }
        }
        Ok(())
    }
}

/// The strong Stackelberg equilibrium. Which of several mixes of equal value is found depends on nothing but the game.
///
/// # Errors
/// When the game needs too many linear programs or the solver fails.
pub fn solve(game: &Game) -> Result<Solution> {
    let mut search = Search {
        game,
        open: game.types.iter().map(|kind| undominated(&kind.follower)).collect(),
        best: None,
        programs: 0,
    };
    search.extend(&[])?;
    let Search { best, programs, .. } = search;
    let Some((programmed, mix)) = best else {
        return Err(ScienceError::Unsolvable(
            "no response profile is feasible, which cannot be".to_owned(),
        ));
    };
    // The mix sits on the edge of its best-response region; the solver's rounding must not push it over.
    let slack = 1e-7 * game.range;
    let (favoured, responses, follower_values) = value_of(game, &mix, false, slack)?;
    let (value_adverse_ties, ..) = value_of(game, &mix, true, slack)?;
    let binding = binding(game, &mix, slack);
    let value = if (favoured - programmed).abs() <= 1e-6 * game.range.max(1e-300) {
        favoured
    } else {
        programmed
    };
    Ok(Solution {
        value: value + 0.0,
        mix,
        responses,
        follower_values,
        value_adverse_ties,
        binding,
        best_pure: best_pure(game)?,
        programs,
    })
}

/// Whether each type has another action as good as its best.
fn binding(game: &Game, mix: &[f64], slack: f64) -> Vec<bool> {
    let indifferent = |kind: &FollowerType| {
        let own = |j: usize| -> f64 { mix.iter().zip(&kind.follower).map(|(x, row)| x * row[j]).sum() };
        let values: Vec<f64> = (0..kind.follower[0].len()).map(own).collect();
        let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        values.iter().filter(|&&v| v >= best - slack - game.tie()).count() > 1
    };
    game.types.iter().map(indifferent).collect()
}

/// The best commitment to a single action, ties in the leader's favour; the first among equals.
fn best_pure(game: &Game) -> Result<PureCommitment> {
    let mut best = PureCommitment {
        action: 0,
        value: f64::NEG_INFINITY,
    };
    for action in 0..game.actions {
        let mut mix = vec![0.0; game.actions];
        mix[action] = 1.0;
        let (value, ..) = value_of(game, &mix, false, 0.0)?;
        if value > best.value {
            best = PureCommitment { action, value };
        }
    }
    Ok(best)
}

/// The leader's payoff of one audit configuration: `-(harm * missed + disagreement * false alarms + cost)`, both shares
/// measured under that configuration.
pub fn audit_payoff(missed: f64, false_alarms: f64, harm: f64, disagreement: f64, cost: f64) -> f64 {
    -(harm * missed + disagreement * false_alarms + cost)
}

/// Posterior means of the four flip cells under a symmetric Dirichlet prior of `prior` each (0.5 is Jeffreys').
pub fn dirichlet_posterior(counts: [f64; 4], prior: f64) -> [f64; 4] {
    let total: f64 = counts.iter().sum::<f64>() + 4.0 * prior;
    counts.map(|count| (count + prior) / total)
}
