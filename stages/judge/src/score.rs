//! From raw logits to probabilities and `p_unsafe`. Everything here is applied after the memo, so that labels, orientation and
//! reduction change without running a judge again.

use fracture_stage::Error;

use crate::config::{Activation, are_generic, is_generic};
use crate::raw::RawRow;

/// What the named labels mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Orientation {
    /// They are the bad ones: `p_unsafe` is their probability.
    #[default]
    Bad,
    /// They are the good ones (a judge of helpfulness): `p_unsafe` is one minus their probability.
    Good,
}

/// How the windows of a long text become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reduce {
    /// The worst window: greatest `p_unsafe`, the earliest of equals.
    #[default]
    Max,
    /// The first window.
    First,
    /// The mean of the probabilities over windows.
    Mean,
}

/// The scores of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Probability that the text is bad, in [0, 1].
    pub p_unsafe: f64,
    /// The probability of each label, in the order of [`Scoring::labels`].
    pub labels: Vec<f64>,
}

/// How raw rows are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    labels: Vec<String>,
    activation: Activation,
    named: Vec<usize>,
    orientation: Orientation,
    reduce: Reduce,
}

impl Scoring {
    /// `labels` are the judge's in order, `named` those that `unsafe:` lists.
    ///
    /// # Errors
    /// When `named` is empty, holds a label that the judge does not have (the error lists the labels and the nearest name) or
    /// a placeholder that nobody gave a name, or holds one twice.
    pub fn new(
        labels: Vec<String>,
        activation: Activation,
        named: &[String],
        orientation: Orientation,
        reduce: Reduce,
    ) -> Result<Self, Error> {
        let listed = format!("its labels are {}", labels.join(", "));
        if named.is_empty() {
            let error = Error::pipeline("`unsafe` does not say which labels of the judge are unsafe").cause(listed);
            return Err(if are_generic(&labels) {
                error.hint(GENERIC)
            } else {
                error.hint("for example unsafe: [LABEL]")
            });
        }
        let mut indices = Vec::with_capacity(named.len());
        for name in named {
            let Some(index) = labels.iter().position(|label| label == name) else {
                let error = Error::pipeline(format!("the judge has no label `{name}`")).cause(listed);
                return Err(match nearest(name, &labels) {
                    _ if are_generic(&labels) => error.hint(GENERIC),
                    Some(label) => error.hint(format!("did you mean `{label}`?")),
                    None => error.hint("name one of its labels under unsafe:"),
                });
            };
            if is_generic(name) {
                return Err(
                    Error::pipeline(format!("`unsafe` names `{name}`, which does not say what it means"))
                        .cause(listed)
                        .hint(GENERIC),
                );
            }
            if indices.contains(&index) {
                return Err(Error::pipeline(format!("`unsafe` lists the label `{name}` twice")));
            }
            indices.push(index);
        }
        // Sums run in the judge's own order, so that the order in the pipeline moves no bit.
        indices.sort_unstable();
        Ok(Self {
            labels,
            activation,
            named: indices,
            orientation,
            reduce,
        })
    }

    /// The judge's labels in order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The scores of a raw row: activation per window, `p_unsafe` per window (the sum of the named labels under softmax, the
    /// greatest under sigmoid), then the reduction over windows.
    ///
    /// # Errors
    /// When a logit is not finite or their number is not that of the labels.
    pub fn apply(&self, row: &RawRow) -> Result<Scores, Error> {
        let windows = row
            .logits
            .iter()
            .map(|logits| self.window(logits))
            .collect::<Result<Vec<_>, _>>()?;
        let none = || Error::internal("a raw row of a judge has no window");
        match self.reduce {
            Reduce::First => windows.into_iter().next().ok_or_else(none),
            Reduce::Max => {
                let worst = |best: Scores, next: Scores| if next.p_unsafe > best.p_unsafe { next } else { best };
                windows.into_iter().reduce(worst).ok_or_else(none)
            }
            Reduce::Mean if windows.is_empty() => Err(none()),
            Reduce::Mean => {
                #[expect(clippy::cast_precision_loss, reason = "a text has far fewer windows than 2^52")]
                let count = windows.len() as f64;
                let mean = |value: &dyn Fn(&Scores) -> f64| windows.iter().map(value).sum::<f64>() / count;
                let labels = (0..self.labels.len())
                    .map(|label| mean(&|window| window.labels[label]))
                    .collect();
                Ok(Scores {
                    p_unsafe: mean(&|window| window.p_unsafe),
                    labels,
                })
            }
        }
    }

    fn window(&self, logits: &[f32]) -> Result<Scores, Error> {
        if let Some(index) = logits.iter().position(|logit| !logit.is_finite()) {
            let label = self.labels.get(index).map_or("?", String::as_str);
            return Err(Error::task(format!(
                "the judge gave {} for the label `{label}`",
                logits[index]
            )));
        }
        let labels = match (self.activation, logits, self.labels.len()) {
            (Activation::Softmax, _, n) if n == logits.len() => softmax(logits),
            // A binary judge with one logit: the logit speaks for the second label.
            (Activation::Sigmoid, [logit], 2) => vec![sigmoid(-f64::from(*logit)), sigmoid(f64::from(*logit))],
            (Activation::Sigmoid, _, n) if n == logits.len() => {
                logits.iter().map(|logit| sigmoid(f64::from(*logit))).collect()
            }
            (_, _, n) => {
                return Err(Error::task(format!(
                    "the judge gave {} logits and has {n} labels",
                    logits.len()
                )));
            }
        };
        let named = self.named.iter().map(|&index| labels[index]);
        let p = match self.activation {
            Activation::Softmax => named.sum::<f64>().min(1.0),
            Activation::Sigmoid => named.fold(0.0, f64::max),
        };
        let p_unsafe = if self.orientation == Orientation::Good {
            1.0 - p
        } else {
            p
        };
        Ok(Scores { p_unsafe, labels })
    }
}

/// The probabilities of logits, one each.
pub(crate) fn probabilities(activation: Activation, logits: &[f32]) -> Vec<f64> {
    match activation {
        Activation::Softmax => softmax(logits),
        Activation::Sigmoid => logits.iter().map(|logit| sigmoid(f64::from(*logit))).collect(),
    }
}

const GENERIC: &str = "the judge's labels are placeholders and are never guessed: say what they mean, \
                       e.g. labels: { LABEL_0: safe, LABEL_1: unsafe }";

fn nearest<'a>(name: &str, labels: &'a [String]) -> Option<&'a String> {
    let lower = name.to_lowercase();
    let near = |label: &&String| (strsim::jaro_winkler(&lower, &label.to_lowercase()) * 1e6).round() as i64;
    labels
        .iter()
        .rev()
        .max_by_key(near)
        .filter(|label| near(label) > 700_000)
}

/// Softmax with the maximum subtracted, in f64.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|logit| libm::exp(f64::from(*logit) - f64::from(top)))
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// 1 / (1 + e^-x), without overflow.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let power = libm::exp(x);
        power / (1.0 + power)
    }
}

#[cfg(test)]
mod tests;
