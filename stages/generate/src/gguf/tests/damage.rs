//! Files that are cut short, damaged, hostile, of another version or of another kind.

use super::*;
use crate::checkpoint::Checkpoint;
use fracture_stage::Error;

/// A file made by hand.
#[derive(Clone)]
struct Made {
    version: u32,
    counts: Option<(u64, u64)>,
    entries: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(key)[..], &kind.to_le_bytes(), value].concat()
}

fn list(kind: u32, count: u64, items: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
}

fn tensor(name: &str, shape: &[u64], format: u32, offset: u64) -> Vec<u8> {
    let mut bytes = [&string(name)[..], &(shape.len() as u32).to_le_bytes()].concat();
    shape.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
    bytes.extend(format.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

impl Made {
    fn new() -> Self {
        Self {
            version: 3,
            counts: None,
            entries: vec![entry("general.architecture", 8, &string("llama"))],
            tensors: vec![tensor("token_embd.weight", &[32, 2], 0, 0)],
            data: 256,
        }
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries.push(entry(key, kind, value));
        self
    }

    fn tensor(mut self, name: &str, shape: &[u64], format: u32, offset: u64) -> Self {
        self.tensors.push(tensor(name, shape, format, offset));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let (tensors, entries) = self
            .counts
            .unwrap_or((self.tensors.len() as u64, self.entries.len() as u64));
        let mut bytes = [&b"GGUF"[..], &self.version.to_le_bytes(), &tensors.to_le_bytes()].concat();
        bytes.extend(entries.to_le_bytes());
        self.entries
            .iter()
            .chain(&self.tensors)
            .for_each(|part| bytes.extend(part));
        let start = bytes.len().next_multiple_of(32);
        bytes.resize(start + self.data, 0);
        bytes
    }

    fn open(&self) -> Result<Gguf, Error> {
        open(&self.bytes())
    }

    fn told(&self) -> String {
        let error = self.open().unwrap_err();
        assert!(
            error.message.contains("model.gguf") && error.hint.is_some(),
            "{error:?}"
        );
        [vec![error.message], error.causes].concat().join("; ")
    }
}

fn open(bytes: &[u8]) -> Result<Gguf, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

#[test]
fn what_is_made_by_hand_is_read() {
    let made = Made::new()
        .entry("a.bool", 7, &[1])
        .entry("a.i8", 1, &[0xFE])
        .entry("a.u64", 10, &u64::MAX.to_le_bytes())
        .entry("a.f64", 12, &0.5f64.to_le_bytes())
        .entry("a.texts", 9, &list(8, 2, &[string("x"), string("")].concat()))
        .entry("a.nested", 9, &list(9, 1, &list(0, 3, &[1, 2, 3])));
    let gguf = made.open().unwrap();
    let value = |key: &str| gguf.header().metadata()[key].clone();
    assert_eq!(value("a.bool"), Value::Flag(true));
    assert_eq!(value("a.i8"), Value::Integer(-2));
    assert_eq!(value("a.u64"), Value::Integer(i128::from(u64::MAX)));
    assert_eq!(value("a.f64"), Value::Number(0.5));
    // The file is gone; a list is read when it is asked for.
    assert!(
        gguf.header()
            .texts("a.texts")
            .unwrap_err()
            .message
            .contains("cannot be read")
    );
    assert!(
        gguf.header()
            .texts("a.f64")
            .unwrap_err()
            .message
            .contains("a.f64 must be a list of texts, not 0.5")
    );
    assert!(gguf.header().texts("none").unwrap().is_none());
}

#[test]
fn other_files_and_other_versions_are_told() {
    assert!(open(b"").unwrap_err().message.contains("no GGUF file"));
    assert!(
        open(b"PK\x03\x04 something else")
            .unwrap_err()
            .message
            .contains("no GGUF file")
    );
    let version = |version: u32| Made { version, ..Made::new() }.told();
    assert!(version(4).contains("version 4; 2 and 3 are read"));
    assert!(version(1).contains("version 1"));
    assert!(version(3u32.swap_bytes()).contains("big-endian"));
    assert!(
        Made {
            version: 2,
            ..Made::new()
        }
        .open()
        .is_ok()
    );
}

#[test]
fn claims_that_no_file_can_hold_cost_nothing() {
    let counts = |tensors, entries| Made {
        counts: Some((tensors, entries)),
        ..Made::new()
    };
    assert!(counts(u64::MAX, 1).told().contains("more than the file can hold"));
    assert!(counts(1, u64::MAX / 2).told().contains("more than the file can hold"));
    // A text, a list and lists within lists that are longer than any memory.
    let long = (1u64 << 62).to_le_bytes();
    let told = Made::new().entry("k", 8, &long).told();
    assert!(told.contains("truncated") && told.contains("k: "), "{told}");
    assert!(
        Made::new()
            .entry("k", 9, &list(8, 1 << 61, &[]))
            .told()
            .contains("k: a list of")
    );
    assert!(
        Made::new()
            .entry("k", 9, &list(10, 1 << 61, &[]))
            .told()
            .contains("k: a list of")
    );
    assert!(
        Made::new()
            .entry("k", 9, &list(0, 1 << 40, &[]))
            .told()
            .contains("truncated")
    );
    let mut nested = list(0, 0, &[]);
    for _ in 0..100 {
        nested = list(9, 1, &nested);
    }
    assert!(Made::new().entry("k", 9, &nested).told().contains("lists within lists"));
    assert!(Made::new().entry("k", 99, &[]).told().contains("unknown type 99"));
    assert!(
        Made::new()
            .entry("k", 7, &[2])
            .told()
            .contains("neither true nor false")
    );
    assert!(
        Made::new()
            .entry("k", 8, &[&2u64.to_le_bytes()[..], &[0xFF, 0xFE]].concat())
            .told()
            .contains("UTF-8")
    );
    let one = Made::new().entry("k", 0, &[1]);
    assert!(one.clone().entry("k", 0, &[1]).told().contains("k is there twice"));
    for alignment in [0u32, 3, 1 << 30] {
        let made = Made::new().entry("general.alignment", 4, &alignment.to_le_bytes());
        assert!(made.told().contains("general.alignment"));
    }
}

#[test]
fn tensors_that_cannot_be_are_told_by_name() {
    let with = |shape: &[u64], format, offset| Made::new().tensor("w", shape, format, offset).told();
    assert!(with(&[32], 0, 1 << 40).contains("tensor w"));
    assert!(with(&[32], 0, u64::MAX - 31).contains("tensor w"));
    assert!(with(&[32], 0, 7).contains("tensor w: the offset 7"));
    assert!(with(&[1, 1, 1, 1, 1], 0, 0).contains("tensor w: 5 dimensions"));
    assert!(with(&[0], 0, 0).contains("tensor w: a dimension of 0"));
    assert!(with(&[1 << 30, 1 << 30, 1 << 30], 0, 0).contains("tensor w: the shape"));
    assert!(with(&[33], 8, 0).contains("tensor w: rows of 33 values do not divide into Q8_0 blocks"));
    assert!(with(&[32], 10, 0).contains("tensor w is stored as Q2_K, which is not supported"));
    assert!(with(&[32], 77, 0).contains("tensor w is stored as type 77"));
    assert!(
        Made::new()
            .tensor("token_embd.weight", &[1], 0, 0)
            .told()
            .contains("is there twice")
    );
    assert!(
        Made {
            tensors: Vec::new(),
            ..Made::new()
        }
        .told()
        .contains("holds no tensors")
    );
}

#[test]
fn every_cut_is_told_and_no_damage_is_a_panic() {
    let bytes = std::fs::read(path("smollm")).unwrap();
    for length in (0..bytes.len()).step_by(61).chain([bytes.len() - 1]) {
        let error = open(&bytes[..length]).unwrap_err();
        assert!(error.message.contains("model.gguf"), "{length}: {error:?}");
    }
    let header = bytes.len().min(24_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut refused = 0;
    let stream = crate::sampler::Stream::new(1, "damage", "", 0, 0);
    for round in 0..1500u64 {
        let mut bytes = bytes.clone();
        let draw = |i: u64| stream.uniform(4 * round + i);
        let at = 4 + (draw(0) * (header - 12) as f64) as usize;
        match round % 3 {
            0 => bytes[at] = (draw(1) * 256.0) as u8,
            1 => bytes[at..at + 8].copy_from_slice(&((draw(1) * 1e19) as u64).to_le_bytes()),
            _ => bytes[at..at + 4].fill(0xFF),
        }
        std::fs::write(&path, &bytes).unwrap();
        let read = || {
            let checkpoint = Checkpoint::open(&path)?;
            let config = checkpoint.config()?;
            crate::text::Text::open(&checkpoint, &config.eos, &crate::text::TextOptions::default()).map(|_| ())
        };
        refused += usize::from(read().is_err());
    }
    assert!(refused > 300, "{refused} of 1500 were refused");
}

#[test]
fn keys_that_are_not_understood_are_named() {
    // A file of ours with one entry put before the others.
    let with = |key: &str, kind: u32, value: &[u8]| {
        let bytes = std::fs::read(path("smollm")).unwrap();
        let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 1;
        let added = entry(key, kind, value);
        // What moves the data is made up for by a key that nobody reads, so that they stay aligned.
        let padding = 32 - (added.len() + entry("x", 8, &string("")).len()) % 32;
        let filler = entry("x", 8, &string(&" ".repeat(padding)));
        let count = count + 1;
        let bytes = [&bytes[..16], &count.to_le_bytes(), &added, &filler, &bytes[24..]].concat();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        let error = match Checkpoint::open(&path).unwrap().config() {
            Ok(_) => return String::new(),
            Err(error) => error,
        };
        assert!(
            error.message.contains("model.gguf") && error.hint.is_some(),
            "{error:?}"
        );
        error.message
    };
    assert_eq!(with("llama.rope.scaling.finetuned", 7, &[1]), "");
    assert_eq!(with("llama.logit_scale", 6, &0f32.to_le_bytes()), "");
    assert!(with("llama.logit_scale", 6, &2f32.to_le_bytes()).contains("llama.logit_scale: 2 is not supported"));
    assert!(with("llama.rope.scaling.type", 8, &string("spiral")).contains("llama.rope.scaling"));
    assert!(with("general.type", 8, &string("adapter")).contains("holds no model"));
}

#[test]
fn parts_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: u32| format!("parts-{number:05}-of-00002.gguf");
    let copy = |from: u32, to: &str| {
        std::fs::copy(super::folder().join(part(from)), folder.path().join(to)).unwrap();
    };
    copy(1, &part(1));
    let first = folder.path().join(part(1));
    let told = |path: &Path| {
        let error = Gguf::open(path).unwrap_err();
        assert!(error.hint.is_some() || !error.causes.is_empty(), "{error:?}");
        error.message
    };
    assert!(told(&first).contains("parts-00002-of-00002.gguf: is missing"));
    copy(1, &part(2));
    assert!(told(&first).contains("is another part than its name says"));
    copy(2, &part(2));
    assert_eq!(Gguf::open(&first).unwrap().parts().len(), 2);
    assert!(told(&folder.path().join(part(2))).contains("is not the first part"));
    // A folder with the parts of one model holds one model.
    assert_eq!(find(folder.path(), None).unwrap(), Some(first.clone()));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let roles: Vec<&str> = checkpoint.files().iter().map(|file| file.role.as_str()).collect();
    assert_eq!(roles, ["config", "weights/0", "weights/1"]);
    copy(1, "renamed.gguf");
    assert!(told(&folder.path().join("renamed.gguf")).contains("the other parts cannot be found"));
    assert!(
        find(folder.path(), None)
            .unwrap_err()
            .message
            .contains("holds 2 GGUF files")
    );
    assert_eq!(find(folder.path(), Some(&part(1))).unwrap(), Some(first));
    assert!(
        find(folder.path(), Some("../x.gguf"))
            .unwrap_err()
            .message
            .contains("leads out")
    );
    assert!(
        find(folder.path(), Some("none.gguf"))
            .unwrap_err()
            .message
            .contains("no such file")
    );
    assert!(
        Checkpoint::open(&folder.path().join("none.gguf"))
            .unwrap_err()
            .message
            .contains("no such file")
    );
}
