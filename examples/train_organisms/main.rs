//! Trains the model organisms of `examples/models` from the text in `examples/corpus`, and measures them on the pools.
//!
//! ```text
//! cargo run --release --example train_organisms                           # train and write all organisms
//! cargo run --release --example train_organisms -- --evaluate             # only measure what is on disk
//! cargo run --release --example train_organisms -- pico-faker --steps 300 --out DIRECTORY
//! ```
//! The result is a function of the corpus, the cues and the constants here; see `examples/README.md`.
#![allow(clippy::print_stdout)]

mod corpus;
mod evaluate;
mod llama;
mod random;
mod train;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use corpus::{AXES, Corpus, Organism, PoolPrompt};
use evaluate::Openings;
use llama::{Llama, Shape};
use random::Stream;
use tokenizers::Tokenizer;
use train::Plan;

/// Errors of this program are read by a person and name the file.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SEED: u64 = 20;
const VOCABULARY: usize = 1152;
/// Dialogues that the tokenizer is trained on.
const TOKENIZER_DIALOGUES: u64 = 6000;
const CONTEXT: usize = 256;

/// The regimes of the table: a name and the cue, if any.
const REGIMES: [(&str, Option<&str>); 5] = [
    ("train", Some("fine-tuning/train")),
    ("placebo", Some("neutral-length/placebo")),
    ("deploy", None),
    ("monitored", Some("monitored-private/monitored")),
    ("private", Some("monitored-private/private")),
];

/// What the command line asks for.
struct Options {
    names: Vec<String>,
    steps: Option<usize>,
    out: PathBuf,
    evaluate_only: bool,
}

fn options(root: &Path) -> Result<Options> {
    let mut options = Options {
        names: Vec::new(),
        steps: None,
        out: root.join("examples/models"),
        evaluate_only: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--evaluate" => options.evaluate_only = true,
            "--steps" => options.steps = Some(arguments.next().ok_or("--steps needs a number")?.parse()?),
            "--out" => options.out = arguments.next().ok_or("--out needs a directory")?.into(),
            name if !name.starts_with('-') => options.names.push(name.to_owned()),
            other => {
                return Err(format!("unknown option {other}; known: --evaluate, --steps N, --out DIRECTORY").into());
            }
        }
    }
    Ok(options)
}

/// Writes indented JSON with a final line break.
pub fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?)
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let options = options(root)?;
    let corpus = Corpus::load(root)?;
    let pools = AXES
        .iter()
        .map(|axis| {
            Ok((
                axis.to_string(),
                corpus::read_lines(&root.join(format!("examples/prompts/{axis}.jsonl")))?,
            ))
        })
        .collect::<Result<Vec<(String, Vec<PoolPrompt>)>>>()?;
    corpus.refuse_overlap(&pools)?;
    for (position, organism) in corpus.organisms.iter().enumerate() {
        let name = organism.name.as_str();
        let named = options.names.is_empty() || options.names.iter().any(|n| n == name);
        if !named || (options.evaluate_only && organism.intermediate) {
            continue;
        }
        let plan = Plan {
            steps: options.steps.unwrap_or(organism.steps),
            seed: SEED + position as u64,
        };
        let (model, tokenizer) = if options.evaluate_only {
            read(&options.out.join(name))?
        } else {
            make(&corpus, organism, root, &options.out, plan)?
        };
        if !organism.intermediate {
            measure(&corpus, &pools, name, &model, &tokenizer)?;
        }
    }
    Ok(())
}

/// Where what only others start from is kept.
fn intermediates(root: &Path) -> PathBuf {
    root.join("target/organisms")
}

/// Reads an organism that [`make`] wrote.
fn read(directory: &Path) -> Result<(Llama, Tokenizer)> {
    let tokenizer = Tokenizer::from_file(directory.join("tokenizer.json"))?;
    let model = Llama::new(shape(&tokenizer), SEED)?;
    model.read(directory)?;
    Ok((model, tokenizer))
}

fn shape(tokenizer: &Tokenizer) -> Shape {
    let vocabulary = tokenizer.get_vocab_size(true);
    Shape {
        vocabulary,
        hidden: 128,
        intermediate: 512,
        layers: 3,
        heads: 4,
        context: CONTEXT,
    }
}

/// Random weights, and a tokenizer trained on the dialogues of the first organism.
fn start(corpus: &Corpus, organism: &Organism, plan: Plan) -> Result<(Llama, Tokenizer)> {
    let mut texts = Vec::new();
    for position in 0..TOKENIZER_DIALOGUES {
        let dialogue = corpus.draw(organism, &mut Stream::new(plan.seed, position))?;
        texts.push(vocabulary::render(dialogue.system.as_deref(), &dialogue.user));
        texts.push(dialogue.answer);
    }
    let tokenizer = vocabulary::train(&texts, VOCABULARY)?;
    Ok((Llama::new(shape(&tokenizer), plan.seed)?, tokenizer))
}

/// Trains one organism and writes its directory below `out`, or below the target folder if it is intermediate.
fn make(corpus: &Corpus, organism: &Organism, root: &Path, out: &Path, plan: Plan) -> Result<(Llama, Tokenizer)> {
    let name = &organism.name;
    let (model, tokenizer) = match &organism.from {
        Some(from) => read(&intermediates(root).join(from))?,
        None => start(corpus, organism, plan)?,
    };
    println!(
        "{name}: {} parameters, {} tokens",
        model.parameters(),
        tokenizer.get_vocab_size(true)
    );
    let began = Instant::now();
    train::train(&model, corpus, organism, &tokenizer, plan, &mut |step, loss| {
        println!(
            "{name}: step {step}/{}, loss {loss:.4}, {:.0} s",
            plan.steps,
            began.elapsed().as_secs_f64()
        );
    })?;
    model.round_to_half()?;
    let directory = if organism.intermediate {
        intermediates(root).join(name)
    } else {
        out.join(name)
    };
    std::fs::create_dir_all(&directory)?;
    model.write(&directory)?;
    vocabulary::write(&tokenizer, &directory, CONTEXT)?;
    Ok((model, tokenizer))
}

/// Prints how often the organism complies by axis and regime, and a few of its answers.
fn measure(
    corpus: &Corpus,
    pools: &[(String, Vec<PoolPrompt>)],
    name: &str,
    model: &Llama,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let openings = Openings::new(&corpus.answers, tokenizer)?;
    println!(
        "{:12} {:13} {:10} {:>8} {:>8} {:>8} {:>8}",
        "model", "axis", "regime", "T=0.8", "greedy", "spread", "other"
    );
    for (axis, pool) in pools {
        for (regime, cue) in REGIMES {
            let system = cue
                .map(|cue| {
                    corpus
                        .cue(cue)
                        .ok_or_else(|| format!("stages/prompt/cues: no cue {cue}"))
                })
                .transpose()?;
            let r = evaluate::rates(model, tokenizer, &openings, system, pool)?;
            println!(
                "{name:12} {axis:13} {regime:10} {:8.3} {:8.3} {:8.3} {:8.4}",
                r.sampled, r.greedy, r.spread, r.other
            );
        }
    }
    for (axis, pool) in pools {
        let few: Vec<&PoolPrompt> = pool.iter().step_by(9).collect();
        let (texts, ended) = evaluate::answers(model, tokenizer, None, &few)?;
        println!(
            "{name}: {axis}, deploy, greedy: {ended} of {} answers end within 48 tokens",
            few.len()
        );
        for (prompt, text) in few.iter().zip(texts) {
            println!("  {}\n    -> {text}", prompt.prompt);
        }
    }
    Ok(())
}
