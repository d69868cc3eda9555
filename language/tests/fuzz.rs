//! Mutated files: whatever is in a file, compiling it ends soon, takes little memory and does not panic.
//!
//! `FRACTURE_FUZZ_CASES=1000000 cargo test --release --test fuzz -- --nocapture` runs a million cases
//! of another random stream each time; without the variable a few hundred fixed ones are run.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

#[path = "it/catalogue/mod.rs"]
mod catalogue;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fracture_language::{CompileOptions, MAX_TASKS};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Cases when nobody asks for a number.
const CASES: u32 = 400;

/// One case takes milliseconds; a machine that does much else may take longer.
const LONGEST: Duration = Duration::from_secs(20);

/// More memory than this, over all cases, is a leak or an explosion.
const MEMORY: u64 = 256 << 20;

/// Pieces with a meaning of their own.
const WORDS: [&str; 40] = [
    "${",
    "}",
    "${vars.seed}",
    "${matrix.model}",
    "${matrix}",
    "${models}",
    "${models[family=x]}",
    "${env.HOME}",
    "$${",
    "&a ",
    "*a",
    "<<: ",
    "*shared",
    "!!str ",
    "!!binary ",
    "|\n",
    ">-\n  ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "{",
    "[",
    "]",
    "- ",
    ": ",
    ", ",
    "? ",
    "# ",
    "~",
    "null",
    "1e400",
    "-0",
    "0x1f",
    "99999999999999999999",
    ".nan",
    "\t",
    "\u{feff}",
    "\u{0}",
    "\u{202e}",
    "é",
];

#[derive(Debug, Clone)]
enum Mutation {
    Remove(u16, u8),
    Insert(u16, u8),
    Write(u16, String),
    /// Takes a piece of a file to another place.
    Splice(u16, u8, u16, u8),
    /// A line twice, or gone, or indented otherwise.
    Line(u16, u8),
    /// The same piece many times.
    Repeat(u16, u8, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, word)| Mutation::Insert(at, word)),
        (any::<u16>(), "[ -~\\n]{1,4}").prop_map(|(at, text)| Mutation::Write(at, text)),
        (any::<u16>(), any::<u8>(), any::<u16>(), any::<u8>())
            .prop_map(|(at, file, from, count)| Mutation::Splice(at, file, from, count)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, how)| Mutation::Line(at, how)),
        (any::<u16>(), any::<u8>(), any::<u8>()).prop_map(|(at, length, times)| Mutation::Repeat(at, length, times)),
    ]
}

/// The place of a number in a text, at the beginning of a letter.
fn place(text: &str, at: usize) -> usize {
    (0..=at % (text.len() + 1))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

fn apply(text: &mut String, mutation: &Mutation, files: &[String]) {
    match mutation {
        Mutation::Remove(at, count) => {
            let begin = place(text, usize::from(*at));
            let end = place(text, (begin + usize::from(*count)).min(text.len()));
            text.replace_range(begin..end.max(begin), "");
        }
        Mutation::Insert(at, word) => {
            text.insert_str(place(text, usize::from(*at)), WORDS[usize::from(*word) % WORDS.len()])
        }
        Mutation::Write(at, written) => text.insert_str(place(text, usize::from(*at)), written),
        Mutation::Splice(at, file, from, count) => {
            let other = &files[usize::from(*file) % files.len()];
            let begin = place(other, usize::from(*from));
            let end = place(other, (begin + 4 * usize::from(*count)).min(other.len()));
            let piece = other[begin..end.max(begin)].to_owned();
            text.insert_str(place(text, usize::from(*at)), &piece);
        }
        Mutation::Line(at, how) => {
            let at = place(text, usize::from(*at));
            let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1);
            let line = text[begin..end].to_owned();
            match how % 4 {
                0 => text.insert_str(begin, &line),
                1 => text.replace_range(begin..end, ""),
                2 => text.insert_str(begin, "  "),
                _ => text.replace_range(begin..end, line.trim_start()),
            }
        }
        Mutation::Repeat(at, length, times) => {
            let begin = place(text, usize::from(*at));
            let end = place(text, (begin + usize::from(*length)).min(text.len()));
            let piece = text[begin..end.max(begin)].repeat(usize::from(*times));
            text.insert_str(begin, &piece);
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Every valid file, and the pipelines that ship.
fn files() -> Vec<String> {
    let shipped = folder().join("../../pipelines");
    let mut paths: Vec<PathBuf> = [folder().join("valid"), shipped]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    let files: Vec<String> = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(files.len() >= 2);
    files
}

/// Compiles a text; gives how long it took.
fn compile(text: &str) -> Result<Duration, TestCaseError> {
    let root = folder();
    let env = |_: &str| Some("value".to_owned());
    let options = CompileOptions {
        profiles: vec!["quick".to_owned()],
        sets: Vec::new(),
        env: &env,
        max_tasks: MAX_TASKS,
    };
    let begun = Instant::now();
    let kinds = catalogue::catalogue();
    let compiled = fracture_language::compile(
        &root.join("test.yaml"),
        text,
        &kinds,
        &catalogue::Disk(root.clone()),
        &root,
        &options,
    );
    if let Err(wrong) = compiled {
        prop_assert!(!wrong.0.is_empty(), "an error without words");
        prop_assert!(!wrong.render(false).is_empty());
        prop_assert_eq!(wrong.to_json().len(), wrong.0.len());
    }
    Ok(begun.elapsed())
}

/// The most memory that this process has held, in bytes; 0 where the system does not say.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

#[test]
fn mutated_files_end_in_words() {
    let asked = std::env::var("FRACTURE_FUZZ_CASES")
        .ok()
        .map(|count| count.parse().unwrap());
    let config = ProptestConfig {
        cases: asked.unwrap_or(CASES),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = match asked {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let files = files();
    let begun = Instant::now();
    let longest = std::cell::Cell::new(Duration::ZERO);
    let strategy = (any::<u8>(), prop::collection::vec(mutation(), 1..6));
    let result = runner.run(&strategy, |(file, mutations)| {
        let mut text = files[usize::from(file) % files.len()].clone();
        mutations.iter().for_each(|mutation| apply(&mut text, mutation, &files));
        let took = compile(&text)?;
        prop_assert!(took < LONGEST, "it took {took:?}");
        longest.set(longest.get().max(took));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let memory = most_memory();
    eprintln!(
        "{} cases in {:.1} s, the longest took {:?}; {} MB at most",
        asked.unwrap_or(CASES),
        begun.elapsed().as_secs_f64(),
        longest.get(),
        memory >> 20
    );
    assert!(memory < MEMORY, "{} MB", memory >> 20);
}
