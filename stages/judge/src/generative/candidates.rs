//! The tokens that spell the verdicts.
//!
//! A word may be spelled by several sequences of tokens (`Yes`, ` yes`, `YES`), and a sequence may be longer than one token.
//! The sequences of all words form a tree; the model is asked once at each of its inner nodes, and the log-probability of a
//! sequence is the sum along its path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fracture_generate::text::Text;
use fracture_stage::Error;

/// Where the model is asked: after `path`, for `tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Tokens of a verdict that stand between the prompt and this place.
    pub path: Vec<u32>,
    /// Tokens that may follow.
    pub tokens: Arc<[u32]>,
}

/// All spellings of some words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    nodes: Vec<Node>,
    /// Word, then node and token at each step.
    sequences: Vec<(u16, Vec<(usize, usize)>)>,
}

impl Candidates {
    /// The spellings of `words` under a model's tokenizer.
    ///
    /// # Errors
    /// When the tokenizer can not spell a word, or two words begin with the same tokens.
    pub fn new(words: &[String], text: &Text) -> Result<Self, Error> {
        let mut spelled: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
        for (index, word) in words.iter().enumerate() {
            let sequences = sequences(word, text)?;
            if sequences.is_empty() {
                return Err(
                    Error::pipeline(format!("the model's tokenizer can not spell the verdict `{word}`"))
                        .hint("give a word that the model can write under `verdict`"),
                );
            }
            for sequence in sequences {
                match spelled.insert(sequence, index) {
                    Some(other) if other != index => return Err(alike(&words[other], word)),
                    _ => {}
                }
            }
        }
        Self::tree(words, &spelled)
    }

    fn tree(words: &[String], spelled: &BTreeMap<Vec<u32>, usize>) -> Result<Self, Error> {
        // In the order of tokens a sequence that begins another one stands right before those that it begins.
        let mut kept: Vec<(&Vec<u32>, usize)> = Vec::new();
        for (sequence, &word) in spelled {
            match kept.iter().rev().find(|(shorter, _)| sequence.starts_with(shorter)) {
                Some((_, same)) if *same == word => {}
                Some((_, other)) => return Err(alike(&words[*other], &words[word])),
                None => kept.push((sequence, word)),
            }
        }
        let mut followers: BTreeMap<&[u32], BTreeSet<u32>> = BTreeMap::new();
        for (sequence, _) in &kept {
            for at in 0..sequence.len() {
                followers.entry(&sequence[..at]).or_default().insert(sequence[at]);
            }
        }
        let nodes: Vec<Node> = followers
            .iter()
            .map(|(path, tokens)| Node {
                path: path.to_vec(),
                tokens: tokens.iter().copied().collect(),
            })
            .collect();
        let step = |sequence: &[u32], at: usize| -> Option<(usize, usize)> {
            let node = nodes.iter().position(|node| node.path == sequence[..at])?;
            let token = nodes[node].tokens.iter().position(|token| *token == sequence[at])?;
            Some((node, token))
        };
        let sequences = kept
            .iter()
            .map(|(sequence, word)| {
                let steps = (0..sequence.len()).filter_map(|at| step(sequence, at)).collect();
                (u16::try_from(*word).unwrap_or(u16::MAX), steps)
            })
            .collect();
        Ok(Self { nodes, sequences })
    }

    /// Where the model is asked; the first is right after the prompt.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The longest path of a node, tokens.
    pub fn depth(&self) -> usize {
        self.nodes.iter().map(|node| node.path.len()).max().unwrap_or(0)
    }

    /// Word and log-probability of each sequence, from the log-probabilities `scores[node][token]`.
    pub fn weigh(&self, scores: &[Vec<f64>]) -> Vec<(u16, f64)> {
        let sum = |steps: &Vec<(usize, usize)>| steps.iter().map(|(node, token)| scores[*node][*token]).sum();
        self.sequences.iter().map(|(word, steps)| (*word, sum(steps))).collect()
    }
}

fn alike(one: &str, other: &str) -> Error {
    Error::pipeline(format!(
        "the verdicts `{one}` and `{other}` begin with the same tokens, so that their probabilities can not be told apart"
    ))
    .hint("choose words that differ from their first letters")
}

/// Upper, lower and title case, with a space before and without.
fn spellings(word: &str) -> BTreeSet<String> {
    let word = word.trim();
    let lower = word.to_lowercase();
    let mut letters = lower.chars();
    let title: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(letters)
        .collect();
    [word.to_owned(), word.to_uppercase(), lower, title]
        .into_iter()
        .flat_map(|spelling| [format!(" {spelling}"), spelling])
        .collect()
}

/// The sequences of tokens that spell a word: as the tokenizer writes it at a text's beginning, and within one.
fn sequences(word: &str, text: &Text) -> Result<BTreeSet<Vec<u32>>, Error> {
    let mut found = BTreeSet::new();
    for spelling in spellings(word) {
        let mut ways = vec![text.encode(&spelling, false)?];
        for before in ["\n", ":"] {
            let (alone, joined) = (
                text.encode(before, false)?,
                text.encode(&format!("{before}{spelling}"), false)?,
            );
            ways.extend(joined.strip_prefix(&alone[..]).map(<[u32]>::to_vec));
        }
        for way in ways.into_iter().filter(|way| !way.is_empty()) {
            // A tokenizer that lacks a letter writes something else.
            if text.decode(&way, false)?.trim().to_lowercase() == spelling.trim().to_lowercase() {
                found.insert(way);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(sequences: &[(&[u32], usize)]) -> Result<Candidates, Error> {
        let words = ["safe".to_owned(), "unsafe".to_owned()];
        Candidates::tree(&words, &sequences.iter().map(|(s, w)| (s.to_vec(), *w)).collect())
    }

    #[test]
    fn a_sequence_weighs_the_sum_along_its_path() {
        let candidates = tree(&[(&[5], 0), (&[7, 1], 1), (&[7, 2, 3], 1), (&[9], 1)]).unwrap();
        let nodes: Vec<(&[u32], &[u32])> = candidates
            .nodes()
            .iter()
            .map(|node| (&node.path[..], &node.tokens[..]))
            .collect();
        assert_eq!(
            nodes,
            [
                (&[][..], &[5, 7, 9][..]),
                (&[7][..], &[1, 2][..]),
                (&[7, 2][..], &[3][..])
            ]
        );
        let weighed = candidates.weigh(&[vec![-1.0, -2.0, -3.0], vec![-0.5, -0.25], vec![-0.125]]);
        assert_eq!(weighed, [(0, -1.0), (1, -2.5), (1, -2.375), (1, -3.0)]);
        assert_eq!(candidates.depth(), 2);
    }

    #[test]
    fn no_probability_counts_twice() {
        let once = tree(&[(&[7], 1), (&[7, 2], 1), (&[5], 0)]).unwrap();
        assert_eq!(once.weigh(&[vec![-1.0, -2.0]]), [(0, -1.0), (1, -2.0)]);
        let error = tree(&[(&[7], 0), (&[7, 2], 1)]).unwrap_err();
        assert!(
            error.message.contains("`safe` and `unsafe` begin with the same tokens"),
            "{error}"
        );
    }

    #[test]
    fn spellings_are_the_usual_ones() {
        let all: Vec<String> = spellings("Yes").into_iter().collect();
        assert_eq!(all, [" YES", " Yes", " yes", "YES", "Yes", "yes"]);
    }
}
