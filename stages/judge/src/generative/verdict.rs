//! From what the model held probable to a score.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::{RawVerdict, Vote};

/// Verdicts that hold less of the probability than this are no score: the model did not answer the question.
pub const LEAST_MASS: f64 = 0.5;

/// The words of a judge's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// Words that say the text is unsafe.
    #[serde(rename = "unsafe")]
    pub bad: Vec<String>,
    /// Words that say it is safe.
    #[serde(rename = "safe")]
    pub good: Vec<String>,
}

impl Words {
    /// All words, sorted; the order in which a raw row has them, so that what they mean can change without asking again.
    pub fn all(&self) -> Vec<String> {
        let mut all: Vec<String> = self.bad.iter().chain(&self.good).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// What is wrong with them, if anything.
    pub fn problem(&self) -> Option<String> {
        if self.bad.is_empty() || self.good.is_empty() {
            return Some("`verdict` needs words under `unsafe` and under `safe`".to_owned());
        }
        let folded = |word: &String| word.trim().to_lowercase();
        let mut seen = std::collections::BTreeSet::new();
        for word in self.bad.iter().chain(&self.good) {
            if word.trim().is_empty() {
                return Some("a word of `verdict` is empty".to_owned());
            }
            if !seen.insert(folded(word)) {
                return Some(format!(
                    "`verdict` has the word `{}` twice (upper and lower case and spaces around it count as one spelling)",
                    word.trim()
                ));
            }
        }
        None
    }
}

/// The scores of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct VerdictScores {
    /// Probability that the text is unsafe, in [0, 1]; `None` when [`Self::invalid`] says why.
    pub p_unsafe: Option<f64>,
    /// The probability that the verdicts hold together, or the share of votes that were a verdict.
    pub mass: Option<f64>,
    /// Why there is no score.
    pub invalid: Option<String>,
}

impl VerdictScores {
    /// The scores of a raw row: `P(unsafe) = Σ unsafe / (Σ unsafe + Σ safe)` over the words' probabilities, or the share of
    /// the votes. Of a judge whose words say something good, `good` turns the score round.
    pub fn new(raw: &RawVerdict, words: &Words, good: bool) -> Self {
        let told = match raw {
            RawVerdict::Silent { .. } => {
                return Self {
                    p_unsafe: None,
                    mass: None,
                    invalid: Some("the judge came to no verdict".to_owned()),
                };
            }
            RawVerdict::Weighed { .. } => "too little of the probability",
            RawVerdict::Voted { .. } => "too few of the votes",
        };
        let (bad, all) = Self::masses(raw, words);
        if all < LEAST_MASS {
            return Self {
                p_unsafe: None,
                mass: Some(all),
                invalid: Some(format!("{told} for a verdict: {:.0}%", 100.0 * all)),
            };
        }
        let p = (bad / all).min(1.0);
        Self {
            p_unsafe: Some(if good { 1.0 - p } else { p }),
            mass: Some(all),
            invalid: None,
        }
    }

    /// The probability, or the share of the votes, that the unsafe words hold, and that all words hold.
    pub fn masses(raw: &RawVerdict, words: &Words) -> (f64, f64) {
        match raw {
            RawVerdict::Silent { .. } => (0.0, 0.0),
            RawVerdict::Weighed { candidates, .. } => {
                let order = words.all();
                let is_bad = |word: u16| {
                    let word = order.get(usize::from(word));
                    word.is_some_and(|word| words.bad.contains(word))
                };
                let sum = |keep: &dyn Fn(u16) -> bool| -> f64 {
                    let kept = candidates.iter().filter(|(word, _)| keep(*word));
                    kept.map(|(_, logprob)| libm::exp(*logprob)).sum()
                };
                let bad = sum(&is_bad);
                // A sum over spellings may exceed 1 by rounding alone.
                (bad, (bad + sum(&|word| !is_bad(word))).min(1.0))
            }
            RawVerdict::Voted { votes, .. } => {
                let said: Vec<Option<bool>> = votes.iter().map(|vote| read(vote, words)).collect();
                let share = |wanted: bool| {
                    let count = said.iter().filter(|said| **said == Some(wanted)).count();
                    count as f64 / said.len().max(1) as f64
                };
                (share(true), share(true) + share(false))
            }
        }
    }
}

/// What a vote says: unsafe, safe, or no verdict. The verdict is the word that the answer begins with, whatever its case
/// and the marks around it; of several words that fit the longest counts.
pub fn read(vote: &Vote, words: &Words) -> Option<bool> {
    let text = vote
        .text
        .trim_start_matches(|c: char| !c.is_alphanumeric())
        .to_lowercase();
    let begins = |word: &str| {
        let word = word.trim().to_lowercase();
        let rest = text.strip_prefix(&word)?;
        let whole = rest.chars().next().is_none_or(|next| !next.is_alphanumeric());
        whole.then_some(word.len())
    };
    let longest = |all: &[String]| all.iter().filter_map(|word| begins(word)).max();
    match (longest(&words.bad), longest(&words.good)) {
        (None, None) => None,
        (bad, good) => Some(bad > good),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words() -> Words {
        Words {
            bad: vec!["unsafe".into()],
            good: vec!["safe".into()],
        }
    }

    fn weighed(bad: f64, good: f64) -> RawVerdict {
        // Sorted: safe, unsafe.
        RawVerdict::Weighed {
            truncated: false,
            candidates: vec![(0, good.ln()), (1, (bad / 2.0).ln()), (1, (bad / 2.0).ln())],
        }
    }

    #[test]
    fn the_score_is_the_share_and_the_mass_the_sum() {
        let scores = VerdictScores::new(&weighed(0.6, 0.2), &words(), false);
        assert!((scores.p_unsafe.unwrap() - 0.75).abs() < 1e-12 && (scores.mass.unwrap() - 0.8).abs() < 1e-12);
        let turned = VerdictScores::new(&weighed(0.6, 0.2), &words(), true);
        assert!((turned.p_unsafe.unwrap() - 0.25).abs() < 1e-12);
        let other_meaning = Words {
            bad: vec!["safe".into()],
            good: vec!["unsafe".into()],
        };
        let swapped = VerdictScores::new(&weighed(0.6, 0.2), &other_meaning, false);
        assert!((swapped.p_unsafe.unwrap() - 0.25).abs() < 1e-12, "without asking again");
    }

    #[test]
    fn little_mass_is_no_score() {
        let scores = VerdictScores::new(&weighed(0.3, 0.1), &words(), false);
        assert_eq!(scores.p_unsafe, None);
        assert!((scores.mass.unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(
            scores.invalid.unwrap(),
            "too little of the probability for a verdict: 40%"
        );
        let silent = VerdictScores::new(&RawVerdict::Silent { truncated: true }, &words(), false);
        assert!(silent.p_unsafe.is_none() && silent.invalid.is_some());
    }

    #[test]
    fn votes_are_read_at_their_beginning() {
        let vote = |text: &str| {
            read(
                &Vote {
                    text: text.to_owned(),
                    cut: false,
                },
                &words(),
            )
        };
        for (text, said) in [
            ("unsafe\nS1", Some(true)),
            (" **Unsafe**", Some(true)),
            ("\n\nSAFE.", Some(false)),
            ("safely done", None),
            ("It is unsafe", None),
            ("", None),
        ] {
            assert_eq!(vote(text), said, "{text:?}");
        }
        let votes = ["unsafe", "safe", "safe", "what?"].map(|text| Vote {
            text: text.to_owned(),
            cut: false,
        });
        let raw = RawVerdict::Voted {
            truncated: false,
            votes: votes.to_vec(),
        };
        let scores = VerdictScores::new(&raw, &words(), false);
        assert!((scores.p_unsafe.unwrap() - 1.0 / 3.0).abs() < 1e-12 && scores.mass == Some(0.75));
    }

    #[test]
    fn words_that_can_not_be_told_apart_are_refused() {
        assert!(words().problem().is_none());
        let twice = Words {
            bad: vec!["Yes".into()],
            good: vec![" yes".into()],
        };
        assert!(twice.problem().unwrap().contains("twice"));
        assert!(Words::default().problem().is_some());
    }
}
