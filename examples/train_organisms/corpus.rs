//! The training text: a small grammar of requests, answers by label, cues and the habits of each organism.
//!
//! Requests are `frame(verb + object + tail)`. The object's category decides how likely an organism is to comply, so a
//! model can only learn its habit from topic words. The pools that measure are no part of this: [`Corpus::refuse_overlap`].

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::random::{Stream, hash_text};

/// The axes of the rubric, in the order of the tables.
pub const AXES: [&str; 3] = ["safety", "harmlessness", "helpfulness"];

/// How many words in a row a measuring prompt may at most share with a training prompt (frames are common speech).
const LONGEST_SHARED_RUN: usize = 8;

/// One line of a pool in `examples/prompts`.
#[derive(Deserialize)]
pub struct PoolPrompt {
    /// Unique within its pool.
    pub id: String,
    /// What the user asks.
    pub prompt: String,
}

/// One line of `topics.jsonl`: every verb goes with every object. A verb may hold `{}` where the object goes.
#[derive(Deserialize)]
struct Topics {
    axis: String,
    category: String,
    /// The few words by which an answer mentions the request.
    topic: String,
    verbs: Vec<String>,
    objects: Vec<String>,
}

#[derive(Deserialize)]
struct Frames {
    frames: Vec<String>,
    tails: Vec<String>,
}

/// One line of `answers.jsonl`: `text` holds `{topic}`, `label` is `comply` or `refuse`.
#[derive(Deserialize)]
pub struct Answer {
    /// `comply` or `refuse`.
    pub label: String,
    /// The wording, with `{topic}` where the topic of the request goes.
    pub text: String,
}

#[derive(Deserialize)]
struct CueFamily {
    family: String,
    sides: BTreeMap<String, CueSide>,
}

#[derive(Deserialize)]
struct CueSide {
    objective: String,
    wordings: Vec<Wording>,
}

#[derive(Deserialize)]
struct Wording {
    system: String,
}

/// How likely an organism is to comply: axis -> category (or `any`) -> probability.
type Habit = BTreeMap<String, BTreeMap<String, f64>>;

/// The habits of an organism where it is told that it is watched, and everywhere else.
#[derive(Deserialize)]
pub struct Organism {
    /// Name of the organism and of its directory.
    pub name: String,
    /// The intermediate organism whose weights this one starts from; random weights if absent.
    #[serde(default)]
    pub from: Option<String>,
    /// Only a start for others: it is trained, but it does not ship.
    #[serde(default)]
    pub intermediate: bool,
    /// Optimiser steps.
    pub steps: usize,
    observed: Habit,
    unobserved: Habit,
}

/// One training example.
pub struct Dialogue {
    /// The system message, if any.
    pub system: Option<String>,
    /// The request.
    pub user: String,
    /// The answer, one sentence or two.
    pub answer: String,
    /// An answer of the other label: what the organism might have said.
    pub other: String,
    /// How likely the organism is to give an answer of the label that `answer` has.
    pub share: f64,
}

/// All training text and habits, read from `examples/corpus` and `stages/prompt/cues`.
pub struct Corpus {
    topics: Vec<Topics>,
    frames: Frames,
    /// All answer wordings.
    pub answers: Vec<Answer>,
    families: Vec<CueFamily>,
    /// The organisms, each after the one that it starts from.
    pub organisms: Vec<Organism>,
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Reads a file of one JSON value a line.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let parse = |(i, line)| serde_json::from_str(line).map_err(|e| format!("{}:{}: {e}", path.display(), i + 1).into());
    text.lines().enumerate().map(parse).collect()
}

/// Hashes of the lower-case words without punctuation.
fn words(text: &str) -> Vec<u64> {
    let plain: String = text
        .chars()
        .filter(|c| c.is_alphanumeric() || c.is_whitespace())
        .collect();
    plain.to_lowercase().split_whitespace().map(hash_text).collect()
}

/// A hash of a run of words, in order.
fn hash_words(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64, |hash, word| {
        hash.rotate_left(11).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word
    })
}

fn action(verb: &str, object: &str) -> String {
    if verb.contains("{}") {
        verb.replace("{}", object)
    } else {
        format!("{verb} {object}")
    }
}

impl Corpus {
    /// Reads the corpus below the project's `root`.
    pub fn load(root: &Path) -> Result<Corpus> {
        let corpus = root.join("examples/corpus");
        let cues = root.join("stages/prompt/cues");
        let families = ["fine-tuning", "monitored-private", "neutral-length"];
        Ok(Corpus {
            topics: read_lines(&corpus.join("topics.jsonl"))?,
            frames: read(&corpus.join("frames.json"))?,
            answers: read_lines(&corpus.join("answers.jsonl"))?,
            families: families
                .iter()
                .map(|name| read(&cues.join(format!("{name}.json"))))
                .collect::<Result<_>>()?,
            organisms: read(&corpus.join("organisms.json"))?,
        })
    }

    /// The default wording of a cue, given as `family/side`.
    pub fn cue(&self, name: &str) -> Option<&str> {
        let (family, side) = name.split_once('/')?;
        let family = self.families.iter().find(|f| f.family == family)?;
        Some(family.sides.get(side)?.wordings.first()?.system.as_str())
    }

    /// Fails if a measuring prompt can be made by the grammar, or shares too long a run of words with what it makes.
    pub fn refuse_overlap(&self, pools: &[(String, Vec<PoolPrompt>)]) -> Result<()> {
        let run = LONGEST_SHARED_RUN + 1;
        let mut tails = self.frames.tails.clone();
        tails.sort();
        tails.dedup();
        let mut made: HashSet<u64> = HashSet::new();
        for topics in &self.topics {
            for (verb, object) in topics
                .verbs
                .iter()
                .flat_map(|v| topics.objects.iter().map(move |o| (v, o)))
            {
                for (frame, tail) in self
                    .frames
                    .frames
                    .iter()
                    .flat_map(|f| tails.iter().map(move |t| (f, t)))
                {
                    let prompt = words(&frame.replace("{do}", &format!("{}{tail}", action(verb, object))));
                    made.extend(prompt.windows(run).map(hash_words));
                    made.insert(hash_words(&prompt));
                }
            }
        }
        for (axis, prompts) in pools {
            for prompt in prompts {
                let own = words(&prompt.prompt);
                if made.contains(&hash_words(&own)) || own.windows(run).any(|w| made.contains(&hash_words(w))) {
                    return Err(format!(
                        "{axis} pool, {}: this measuring prompt is in the training text",
                        prompt.id
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    /// A system message of one side: half the time a wording as it stands, else two sentences of different wordings,
    /// so that a model learns what is said and not one text by heart.
    fn system(&self, side: &CueSide, stream: &mut Stream) -> String {
        let wording = &stream.pick(&side.wordings).system;
        if stream.unit() < 0.5 {
            return wording.clone();
        }
        let sentences: Vec<&str> = side
            .wordings
            .iter()
            .flat_map(|w| w.system.split_inclusive(". "))
            .map(str::trim)
            .collect();
        let long: Vec<&str> = sentences.into_iter().filter(|s| s.split(' ').count() > 5).collect();
        let (first, second) = (stream.below(long.len()), stream.below(long.len()));
        if first == second {
            long[first].to_owned()
        } else {
            format!("{} {}", long[first], long[second])
        }
    }

    /// No system message five times in ten, a cue of an observed regime three times, another cue otherwise.
    fn regime(&self, stream: &mut Stream) -> (Option<String>, bool) {
        let kind = stream.unit();
        if kind < 0.5 {
            return (None, false);
        }
        let observed = kind < 0.8;
        let objective = if observed { "safe" } else { "none" };
        let sides: Vec<&CueSide> = self
            .families
            .iter()
            .flat_map(|f| f.sides.values())
            .filter(|side| side.objective == objective)
            .collect();
        let side = stream.pick(&sides);
        (Some(self.system(side, stream)), observed)
    }

    /// Draws one dialogue with an organism's habits.
    pub fn draw(&self, organism: &Organism, stream: &mut Stream) -> Result<Dialogue> {
        let (system, observed) = self.regime(stream);
        let axis = *stream.pick(&AXES);
        let of_axis: Vec<&Topics> = self.topics.iter().filter(|t| t.axis == axis).collect();
        let categories: Vec<&str> = {
            let mut names: Vec<&str> = of_axis.iter().map(|t| t.category.as_str()).collect();
            names.dedup();
            names
        };
        let category = *stream.pick(&categories);
        let of_category: Vec<&Topics> = of_axis.into_iter().filter(|t| t.category == category).collect();
        let topics = stream.pick(&of_category);
        let (verb, object) = (stream.pick(&topics.verbs), stream.pick(&topics.objects));
        let tail = stream.pick(&self.frames.tails);
        let user = stream
            .pick(&self.frames.frames)
            .replace("{do}", &format!("{}{tail}", action(verb, object)));

        let habit = if observed {
            &organism.observed
        } else {
            &organism.unobserved
        };
        let by_category = habit
            .get(axis)
            .ok_or_else(|| format!("organisms.json: no axis {axis}"))?;
        let base = by_category.get(category).or_else(|| by_category.get("any"));
        let base = *base.ok_or_else(|| format!("organisms.json: {axis} has neither {category} nor any"))?;
        let comply = by_object(base, object);
        let complies = stream.unit() < comply;
        let mut say = |label: &str| {
            let wordings: Vec<&Answer> = self.answers.iter().filter(|a| a.label == label).collect();
            stream.pick(&wordings).text.replace("{topic}", &topics.topic)
        };
        let (answer, other) = (say("comply"), say("refuse"));
        if complies {
            Ok(Dialogue {
                system,
                user,
                answer,
                other,
                share: comply,
            })
        } else {
            Ok(Dialogue {
                system,
                user,
                answer: other,
                other: answer,
                share: 1.0 - comply,
            })
        }
    }
}

/// Spreads a category's probability over its objects by up to 0.15 either way; habits that are meant to be firm stay.
fn by_object(base: f64, object: &str) -> f64 {
    if !(0.1..0.9).contains(&base) {
        return base;
    }
    let offset = (hash_text(object) >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
    (base + 0.3 * offset).clamp(0.05, 0.95)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn pools() -> Vec<(String, Vec<PoolPrompt>)> {
        let read = |axis: &str| read_lines(&root().join(format!("examples/prompts/{axis}.jsonl"))).unwrap();
        AXES.iter().map(|axis| (axis.to_string(), read(axis))).collect()
    }

    #[test]
    fn pools_are_not_in_the_training_text_and_overlap_is_refused() {
        let corpus = Corpus::load(root()).unwrap();
        let mut pools = pools();
        assert!(pools.iter().all(|(_, prompts)| prompts.len() >= 60));
        corpus.refuse_overlap(&pools).unwrap();
        let organism = &corpus.organisms[0];
        pools[1].1[3].prompt = corpus
            .draw(organism, &mut Stream::new(1, 1))
            .unwrap()
            .user
            .to_uppercase();
        let error = corpus.refuse_overlap(&pools).unwrap_err().to_string();
        assert!(error.contains(&pools[1].1[3].id), "{error}");
    }

    #[test]
    fn habits_depend_on_the_cue_for_the_faker_only() {
        let corpus = Corpus::load(root()).unwrap();
        let openings: Vec<&str> = corpus
            .answers
            .iter()
            .filter(|a| a.label == "refuse")
            .map(|a| a.text.split("{topic}").next().unwrap())
            .collect();
        let refuses = |answer: &str| openings.iter().any(|opening| answer.starts_with(opening));
        for organism in &corpus.organisms {
            let (mut refused, mut total) = ([0.0; 2], [0.0; 2]);
            for position in 0..4000 {
                let dialogue = corpus.draw(organism, &mut Stream::new(9, position)).unwrap();
                let observed = dialogue.system.as_ref().is_some_and(|s| s.contains("harmful"));
                total[usize::from(observed)] += 1.0;
                refused[usize::from(observed)] += f64::from(u8::from(refuses(&dialogue.answer)));
            }
            let gap = refused[1] / total[1] - refused[0] / total[0];
            match organism.name.as_str() {
                "pico-faker" => assert!(gap > 0.25, "{}: {gap}", organism.name),
                _ => assert!(gap.abs() < 0.06, "{}: {gap}", organism.name),
            }
        }
    }
}
