#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{Graph, WORDS};

fn read(bytes: &[u8]) -> Result<GraphHeader, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    GraphHeader::read(file.path())
}

#[test]
fn a_header_is_read_without_the_weights() {
    let graph = Graph {
        inputs: vec!["input_ids", "attention_mask"],
        external: Some("model.onnx_data"),
        ..Graph::default()
    };
    let header = read(&graph.encode()).unwrap();
    assert_eq!(header.inputs, ["input_ids", "attention_mask"]);
    assert_eq!(header.external, ["model.onnx_data"]);
    assert_eq!(header.vocabulary, Some(WORDS.len() as u64));
    assert_eq!(
        (header.opset(), header.ir_version, header.batch_dependent),
        (Some(13), 8, false)
    );
    assert_eq!((header.length, header.labels), (None, None));
    assert!(read(&Graph::default().encode()).unwrap().external.is_empty());
    let fixed = Graph {
        fixed: [Some(16), Some(2)],
        ..Graph::default()
    };
    let header = read(&fixed.encode()).unwrap();
    assert_eq!((header.length, header.labels), (Some(16), Some(2)));
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_file_never_a_panic() {
    let whole = Graph::default().encode();
    // Cuts that end between two fields of the model itself leave a file that protobuf can not tell from a whole one.
    let readable = (0..whole.len()).filter(|cut| read(&whole[..*cut]).is_ok()).count();
    assert!(readable <= 2, "{readable}");
    let error = read(&whole[..whole.len() / 2]).unwrap_err();
    assert!(error.to_string().contains("no readable ONNX model"), "{error}");
    assert!(read(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").is_err());
}

#[test]
fn the_oracle_shows_its_vocabulary() {
    let Some(folder) = crate::testing::oracle("judge/distilbert_safe_unsafe") else {
        return;
    };
    let header = GraphHeader::read(&folder.join("model.onnx")).unwrap();
    assert_eq!(header.vocabulary, Some(1574));
    assert_eq!(header.inputs, ["input_ids", "attention_mask"]);
}
