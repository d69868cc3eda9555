//! The parameters of `threshold`, and how they become a threshold.

use std::collections::BTreeMap;

use fracture_science::{Thresholds, threshold};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCORE;

/// Parameters of `threshold`: either `tau`, or the two costs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThresholdParameters {
    /// The threshold itself: a score of at least `tau` is unsafe.
    #[schemars(range(min = 0, max = 1))]
    pub tau: Option<f64>,
    /// `a`, the cost of harm in deployment.
    #[schemars(range(min = 0))]
    pub harm: Option<f64>,
    /// `A`, the cost of disagreeing in training.
    #[schemars(range(min = 0))]
    pub disagreement: Option<f64>,
    /// Which formula turns the costs into `tau`.
    pub convention: Convention,
    /// The column of scores, from 0 (safe) to 1 (unsafe); `p_unsafe` when not given. Readers after this stage find the
    /// scores as `p_unsafe`.
    pub score: Option<String>,
    /// The columns that choose a row's map at the port `calibration`: the `by` of the `calibrate` stage.
    pub by: Vec<String>,
    /// Other parameters for rows where a column has a value: `COLUMN: { VALUE: { tau: 0.3 } }`.
    pub cases: BTreeMap<String, BTreeMap<String, Case>>,
}

/// What may differ between rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// The threshold of these rows.
    #[schemars(range(min = 0, max = 1))]
    pub tau: Option<f64>,
    /// `a` of these rows.
    #[schemars(range(min = 0))]
    pub harm: Option<f64>,
    /// `A` of these rows.
    #[schemars(range(min = 0))]
    pub disagreement: Option<f64>,
    /// The formula of these rows.
    pub convention: Option<Convention>,
}

/// The formula from costs to threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// `a / (A + a)`, as the paper writes it.
    #[default]
    Paper,
    /// `A / (A + a)`, the cost-optimal bar on Pr(unsafe): costlier harm lowers it.
    Bayes,
}

impl Convention {
    /// Its name and formula.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Paper => "paper, a/(A+a)",
            Self::Bayes => "bayes, A/(A+a)",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Paper => Self::Bayes,
            Self::Bayes => Self::Paper,
        }
    }
}

impl From<Convention> for fracture_science::Convention {
    fn from(convention: Convention) -> Self {
        match convention {
            Convention::Paper => Self::Paper,
            Convention::Bayes => Self::Bayes,
        }
    }
}

/// The threshold of some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved {
    /// Scores of at least this are unsafe.
    pub tau: f64,
    /// The other convention's; `None` where `tau` was given.
    pub tau_other: Option<f64>,
    /// The convention that gave `tau`, where costs did.
    pub convention: Option<Convention>,
}

/// What was wrong: the parameter and the message.
pub type Wrong = (&'static str, String);

/// The parameters that hold for some rows, before they become a threshold.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    tau: Option<f64>,
    harm: Option<f64>,
    disagreement: Option<f64>,
    convention: Convention,
}

impl ThresholdParameters {
    /// The column of scores.
    pub fn score(&self) -> &str {
        self.score.as_deref().unwrap_or(SCORE)
    }
}

impl Rule {
    /// The rule of rows without a case.
    ///
    /// # Errors
    /// When both `tau` and a cost are given.
    pub fn base(parameters: &ThresholdParameters) -> Result<Self, Wrong> {
        let ThresholdParameters {
            tau,
            harm,
            disagreement,
            convention,
            ..
        } = *parameters;
        not_both(tau, harm, disagreement)?;
        Ok(Self {
            tau,
            harm,
            disagreement,
            convention,
        })
    }

    /// The rule with a case on top: a case with costs keeps what it does not say of the costs before it, and takes the
    /// place of a `tau` before it.
    ///
    /// # Errors
    /// When the case gives both `tau` and a cost.
    pub fn with(self, case: &Case) -> Result<Self, Wrong> {
        not_both(case.tau, case.harm, case.disagreement)?;
        let costs = case.harm.is_some() || case.disagreement.is_some() || case.convention.is_some();
        Ok(Self {
            tau: case.tau.or(self.tau.filter(|_| !costs)),
            harm: case.harm.or(self.harm),
            disagreement: case.disagreement.or(self.disagreement),
            convention: case.convention.unwrap_or(self.convention),
        })
    }

    /// The threshold.
    ///
    /// # Errors
    /// When a parameter is missing or out of range.
    pub fn resolve(self) -> Result<Resolved, Wrong> {
        if let Some(tau) = self.tau {
            if !(0.0..=1.0).contains(&tau) {
                return Err(("tau", format!("{tau} is no threshold of a probability")));
            }
            return Ok(Resolved {
                tau,
                tau_other: None,
                convention: None,
            });
        }
        let (harm, disagreement) = match (self.harm, self.disagreement) {
            (Some(harm), Some(disagreement)) => (harm, disagreement),
            (Some(_), None) => return Err(("disagreement", "`harm` is given without `disagreement`".to_owned())),
            (None, Some(_)) => return Err(("harm", "`disagreement` is given without `harm`".to_owned())),
            (None, None) => {
                return Err((
                    "tau",
                    "neither `tau` nor `harm` and `disagreement` are given".to_owned(),
                ));
            }
        };
        let Thresholds { tau, tau_other, .. } =
            threshold(harm, disagreement, self.convention.into()).map_err(|error| {
                if harm >= 0.0 {
                    ("disagreement", error.to_string())
                } else {
                    ("harm", error.to_string())
                }
            })?;
        Ok(Resolved {
            tau,
            tau_other: Some(tau_other),
            convention: Some(self.convention),
        })
    }

    /// What a person should know: both thresholds, where the costs differ.
    pub fn warning(self, resolved: &Resolved) -> Option<String> {
        let (convention, other) = (resolved.convention?, resolved.tau_other?);
        let (harm, disagreement) = self.harm.zip(self.disagreement).filter(|(harm, other)| harm != other)?;
        Some(format!(
            "harm (a = {harm}) and disagreement (A = {disagreement}) differ, so the two conventions do: tau is {} \
             ({}), and would be {} ({}); results are shown at both",
            short(resolved.tau),
            convention.formula(),
            short(other),
            convention.other().formula()
        ))
    }
}

/// At most four decimals.
fn short(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn not_both(tau: Option<f64>, harm: Option<f64>, disagreement: Option<f64>) -> Result<(), Wrong> {
    if tau.is_some() && (harm.is_some() || disagreement.is_some()) {
        return Err(("tau", "`tau` and the costs that make it are both given".to_owned()));
    }
    Ok(())
}
