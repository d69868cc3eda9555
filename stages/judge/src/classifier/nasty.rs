#![allow(clippy::unwrap_used)]
//! What Python's onnxruntime and tokenizers say of texts that are hard to tokenize: `tests/fixtures/make.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::score::{Orientation, Reduce, Scoring};
use crate::testing::{judge, load};

#[derive(Deserialize)]
struct Reference {
    /// Probabilities of each text.
    texts: Vec<Vec<f64>>,
    /// Two texts and the probabilities of the pair.
    pairs: Vec<(String, String, Vec<f64>)>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

fn assert_close(classifier: &Classifier, rows: &[Result<RawRow, String>], expected: &[Vec<f64>], what: &str) {
    assert_eq!(rows.len(), expected.len());
    for (index, (row, expected)) in rows.iter().zip(expected).enumerate() {
        let raw = row.as_ref().unwrap();
        let activation = classifier.activation(expected.len()).unwrap();
        let labels = classifier.config().labels.clone();
        let named = [labels[0].clone()];
        let scoring = Scoring::new(labels, activation, &named, Orientation::Bad, Reduce::Max).unwrap();
        let found = scoring.apply(raw).unwrap().labels;
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{what} {index}: {found}, Python says {expected}"
            );
        }
    }
}

/// WordPiece with segments and softmax, byte-level BPE without segments and sigmoid; alone, together, as pairs.
#[test]
fn nasty_texts_score_as_in_python() {
    let references: BTreeMap<String, Reference> = read("reference.json");
    let pieces: Vec<(String, usize)> = read("texts.json");
    let texts: Vec<Text> = pieces
        .iter()
        .map(|(piece, times)| Text::One(piece.repeat(*times)))
        .collect();
    assert!(references.len() == 2 && texts.len() > 25);
    for (name, reference) in references {
        let options = Options {
            threads: 2,
            ..Options::default()
        };
        let mut classifier = load(&fixtures().join(&name), &options).unwrap();
        let longest = if name == "bpe_sigmoid" { 512 } else { 128 };
        assert_eq!(classifier.max_length(), longest, "{name}: positions, not the sentinel");
        let rows = judge(&mut classifier, &texts, texts.len());
        assert_close(&classifier, &rows, &reference.texts, &name);
        let long = rows.iter().filter(|row| row.as_ref().unwrap().truncated).count();
        assert!((2..=5).contains(&long), "{name}: {long} texts are truncated");
        let pairs: Vec<Text> = reference
            .pairs
            .iter()
            .map(|(prompt, response, _)| Text::Pair {
                prompt: prompt.clone(),
                response: response.clone(),
            })
            .collect();
        let rows = judge(&mut classifier, &pairs, 7);
        // Of a pair that is too long Python cuts the longer part and we the prompt; what fits is the same.
        let (kept, expected): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .zip(
                reference
                    .pairs
                    .iter()
                    .map(|(_, _, probabilities)| probabilities.clone()),
            )
            .filter(|(row, _)| !row.as_ref().unwrap().truncated)
            .unzip();
        assert!(kept.len() > 15, "{name}: {} pairs compared", kept.len());
        assert_close(&classifier, &kept, &expected, &format!("{name}, pair"));
    }
}
