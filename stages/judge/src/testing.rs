//! Shared by the tests: tiny ONNX graphs written by hand, judges around them, the runtime, the oracles.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use fracture_stage::{Outcome, Ticket};

use crate::classifier::{Classifier, Options};
use crate::layout::Layout;
use crate::raw::RawRow;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::tokenize::Text;

/// The runtime as the program gets it: installed, cached or fetched. Tests need it, so its absence fails them loudly.
pub fn runtime() -> Runtime {
    Runtime::load(&RuntimeOptions::from_env(false), &mut |note| eprintln!("{note}")).unwrap()
}

/// A folder of the oracles beside the project, `None` (said loudly) when there is none.
pub fn oracle(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/oracles")
        .join(name);
    if !path.exists() {
        eprintln!("SKIPPED: no oracle {}", path.display());
        return None;
    }
    Some(path)
}

/// Scores texts in the order given; `chunk` texts are submitted between steps.
pub fn judge(classifier: &mut Classifier, texts: &[Text], chunk: usize) -> Vec<Result<RawRow, String>> {
    let mut results: Vec<Option<Result<RawRow, String>>> = vec![None; texts.len()];
    let mut done = |ticket: Ticket, outcome: Outcome| {
        let result = match outcome {
            Outcome::Raw(bytes) => Ok(RawRow::decode(&bytes).unwrap()),
            Outcome::Failed(error) => Err(error.message),
        };
        assert!(
            results[usize::try_from(ticket.0).unwrap()].replace(result).is_none(),
            "a row came twice"
        );
    };
    for (start, part) in texts.chunks(chunk).enumerate() {
        for (index, text) in part.iter().enumerate() {
            while classifier.room() == 0 {
                classifier.step(true, &mut done).unwrap();
            }
            classifier.submit(Ticket((start * chunk + index) as u64), text.clone());
        }
        classifier.step(true, &mut done).unwrap();
    }
    while classifier.step(false, &mut done).unwrap().active > 0 {}
    results
        .into_iter()
        .map(|result| result.expect("every row comes"))
        .collect()
}

/// The type of the ids of a [`Graph`], by its number in `onnx.proto`.
pub const INT64: u64 = 7;
pub const INT32: u64 = 6;

/// A graph that looks token ids up in a table `[words, labels]` and takes the mean over positions, times the mask if there is
/// one: enough of a classifier to test everything around it.
pub struct Graph {
    pub inputs: Vec<&'static str>,
    pub ids: u64,
    pub table: Vec<Vec<f32>>,
    pub opset: u64,
    /// The location of the table's data outside the file.
    pub external: Option<&'static str>,
    /// Whether the output is f16.
    pub half: bool,
    /// Whether the logits are the shape of the batch instead: rows, length.
    pub shape: bool,
    /// The length of the input and the number of logits that the graph fixes.
    pub fixed: [Option<u64>; 2],
}

impl Default for Graph {
    fn default() -> Self {
        let table = (0..4u8)
            .map(|row| vec![f32::from(row), -0.5 * f32::from(row)])
            .collect();
        Self {
            inputs: vec!["input_ids"],
            ids: INT64,
            table,
            opset: 13,
            external: None,
            half: false,
            shape: false,
            fixed: [None; 2],
        }
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    [
        varint(field << 3 | 2),
        varint(value.as_ref().len() as u64),
        value.as_ref().to_vec(),
    ]
    .concat()
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| bytes(1, name)).collect();
    let attributes = attributes.iter().flat_map(|attribute| bytes(5, attribute)).collect();
    bytes(1, [inputs, bytes(2, output), bytes(4, operator), attributes].concat())
}

fn value(field: u64, name: &str, kind: u64, last: (&str, Option<u64>)) -> Vec<u8> {
    let last = last.1.map_or_else(|| bytes(2, last.0), |fixed| number(1, fixed));
    let shape: Vec<u8> = [bytes(2, "batch"), last]
        .into_iter()
        .flat_map(|one| bytes(1, one))
        .collect();
    let tensor = [number(1, kind), bytes(2, shape)].concat();
    bytes(field, [bytes(1, name), bytes(2, bytes(1, tensor))].concat())
}

impl Graph {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (words, labels) = (self.table.len() as u64, self.table[0].len() as u64);
        let data: Vec<u8> = self
            .table
            .iter()
            .flatten()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let held = match self.external {
            Some(location) => [
                bytes(13, [bytes(1, "location"), bytes(2, location)].concat()),
                number(14, 1),
            ]
            .concat(),
            None => bytes(9, data),
        };
        let table = bytes(
            5,
            [
                number(1, words),
                number(1, labels),
                number(2, 1),
                bytes(8, "table"),
                held,
            ]
            .concat(),
        );
        let axes = [bytes(1, "axes"), number(8, 1), number(20, 7)].concat();
        let drop = [bytes(1, "keepdims"), number(3, 0), number(20, 2)].concat();
        let to = |kind| [bytes(1, "to"), number(3, kind), number(20, 2)].concat();
        let mut nodes = vec![
            node("Gather", &["table", "input_ids"], "rows", &[]),
            node("ReduceMean", &["rows"], "mean", &[axes, drop]),
            node("Shape", &["input_ids"], "shape", &[]),
            node("Cast", &["shape"], "dimensions", &[to(1)]),
            node("Sub", &["mean", "mean"], "zero", &[]),
            node("Add", &["zero", "dimensions"], "placed", &[]),
            node(
                "Cast",
                &[if self.shape { "placed" } else { "mean" }],
                "logits",
                &[to(if self.half { 10 } else { 1 })],
            ),
        ];
        for name in self.inputs.iter().filter(|name| **name != "input_ids") {
            nodes.push(node("Identity", &[name], &format!("{name}_unused"), &[]));
        }
        let inputs = self
            .inputs
            .iter()
            .flat_map(|name| value(11, name, self.ids, ("length", self.fixed[0])));
        let output = value(12, "logits", if self.half { 10 } else { 1 }, ("labels", self.fixed[1]));
        let graph = [nodes.concat(), bytes(2, "test"), table, inputs.collect(), output].concat();
        [
            number(1, 8),
            bytes(7, graph),
            bytes(8, [bytes(1, ""), number(2, self.opset)].concat()),
        ]
        .concat()
    }
}

/// The words of the tests' tokenizer, by id.
pub const WORDS: [&str; 4] = ["[PAD]", "good", "bad", "odd"];

/// `tokenizer.json`: whitespace words, no special tokens, unknown words are `odd`.
pub fn tokenizer(words: &[&str]) -> String {
    let vocabulary: serde_json::Map<String, serde_json::Value> = words
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id.into()))
        .collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "odd" },
    })
    .to_string()
}

/// A judge in a folder of its own.
pub fn folder(graph: &Graph, config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), graph.encode()).unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer(&WORDS)).unwrap();
    folder
}

/// A configuration of two labels.
pub const CONFIG: &str = r#"{"id2label": {"0": "safe", "1": "unsafe"}, "pad_token_id": 0}"#;

/// Loads the judge in a folder.
pub fn load(folder: &Path, options: &Options) -> Result<Classifier, fracture_stage::Error> {
    Classifier::load(&Layout::resolve(folder, None)?, &runtime(), options)
}
