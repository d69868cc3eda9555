//! Which regimes are compared, and which of them are the A/A pair.
//!
//! Two regimes are an A/A pair when in every unit that has both their rows differ only in `draw`: another random stream, and
//! the same `cue`, `strength`, `variant` and `cue_hash` (null equals null). A table that says neither `cue` nor `cue_hash`
//! does not tell what the model was told; there the name of one regime must also begin with the other's (`deploy`,
//! `deploy-again`). The regime with the lower draw comes first.

use fracture_stage::Error;

use super::Measured;

/// The regime that others are compared with unless `contrasts:` says otherwise.
pub(super) const DEPLOY: &str = "deploy";
/// How the cues of placebo families begin.
const PLACEBO: [&str; 2] = ["neutral", "placebo"];

/// Two regimes, the first one first: indices into [`Measured::regimes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contrast {
    /// The regime in which a flip is safe.
    pub first: usize,
    /// The regime in which it is unsafe.
    pub second: usize,
}

impl Measured {
    /// A contrast in words: `train->deploy`.
    pub fn contrast_name(&self, contrast: Contrast) -> String {
        format!("{}->{}", self.regimes[contrast.first], self.regimes[contrast.second])
    }

    /// The A/A pairs, by name.
    pub fn same_but_draw(&self) -> Vec<Contrast> {
        let mut found = Vec::new();
        for a in 0..self.regimes.len() {
            for b in a + 1..self.regimes.len() {
                found.extend(self.only_draw_differs(a, b));
            }
        }
        found
    }

    fn only_draw_differs(&self, a: usize, b: usize) -> Option<Contrast> {
        let (one, other) = (&self.regimes[a], &self.regimes[b]);
        if !self.says_told && !one.starts_with(other.as_str()) && !other.starts_with(one.as_str()) {
            return None;
        }
        let both = (0..self.units.len()).filter_map(|unit| self.side(unit, a).zip(self.side(unit, b)));
        let mut lower = None;
        for (left, right) in both {
            let now = left.draw.cmp(&right.draw);
            if left.told != right.told || now.is_eq() || lower.is_some_and(|before| before != now) {
                return None;
            }
            lower = Some(now);
        }
        Some(if lower?.is_lt() {
            Contrast { first: a, second: b }
        } else {
            Contrast { first: b, second: a }
        })
    }

    /// The contrasts that are asked for, or those of `deploy` with every other regime, the A/A pairs last.
    ///
    /// # Errors
    /// When a regime is not there; the error lists those that are.
    pub fn contrasts(&self, asked: Option<&[[String; 2]]>, pairs: &[Contrast]) -> Result<Vec<Contrast>, Error> {
        if self.regimes.is_empty() {
            return Ok(Vec::new());
        }
        let listing = || {
            self.regimes
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let find = |name: &str| {
            self.regimes.iter().position(|regime| regime == name).ok_or_else(|| {
                let error = Error::pipeline(format!("there is no regime `{name}`"));
                match nearest(name, &self.regimes) {
                    Some(near) => error.hint(format!("did you mean `{near}`? The regimes are {}", listing())),
                    None => error.hint(format!("the regimes are {}", listing())),
                }
            })
        };
        if let Some(asked) = asked {
            let one = |[first, second]: &[String; 2]| {
                Ok(Contrast {
                    first: find(first)?,
                    second: find(second)?,
                })
            };
            return asked.iter().map(one).collect();
        }
        let deploy = find(DEPLOY).map_err(|error| {
            let hint = format!("the regimes are {}; say `contrasts: [[FIRST, SECOND]]`", listing());
            Error {
                hint: Some(hint),
                ..error
            }
            .context("without `contrasts:` every regime is compared with `deploy`")
        })?;
        let against = (0..self.regimes.len())
            .map(|first| Contrast { first, second: deploy })
            .filter(|contrast| contrast.first != deploy)
            .filter(|one| {
                let twin = |pair: &Contrast| {
                    [pair.first, pair.second]
                        .iter()
                        .all(|r| [one.first, deploy].contains(r))
                };
                !pairs.iter().any(twin)
            });
        Ok(against.chain(pairs.iter().copied()).collect())
    }

    /// The placebo regimes: those that are called so, or whose cue is of a placebo family; never `deploy`.
    pub fn placebos(&self) -> Vec<usize> {
        let placebo = |regime: usize| {
            let cue = self.cues[regime].as_deref();
            self.regimes[regime].starts_with("placebo")
                || cue.is_some_and(|cue| PLACEBO.iter().any(|family| cue.starts_with(family)))
        };
        (0..self.regimes.len())
            .filter(|&regime| self.regimes[regime] != DEPLOY && placebo(regime))
            .collect()
    }

    /// The A/A pairs whose noise bears on a contrast, the closest first: those of its second regime, of its first, any.
    pub fn floors(&self, contrast: Contrast, pairs: &[Contrast]) -> Vec<Contrast> {
        let distance = |pair: &Contrast| {
            let holds = |regime| pair.first == regime || pair.second == regime;
            match (holds(contrast.second), holds(contrast.first)) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            }
        };
        let mut sorted = pairs.to_vec();
        sorted.sort_by_key(distance);
        sorted
    }
}

/// The known name that takes the fewest changes of letters, where they are few.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.chars().count()).collect();
        for (i, a) in name.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in other.chars().enumerate() {
                let change = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row.last().copied().unwrap_or_default()
    };
    let (cost, near) = known.iter().map(|other| (distance(other), other.as_str())).min()?;
    (cost * 2 <= name.chars().count()).then_some(near)
}
