//! Canaries of generative judges: how they are asked, and served judges that are watched by them.

use std::path::Path;
use std::sync::Arc;

use fracture_served::{ServedExecutor, Work as Asked, identity};
use fracture_stage::{Error, Executor, Files, Outcome, Progress, Request, RowError, Ticket, Usage};
use serde_json::{Value, json};

use super::GenerativeStage;
use crate::canaries::{Canaries, Readings, check_labels};
use crate::generative::served::ServedVerdict;
use crate::generative::{Asking, Question, VerdictScores, Words};
use crate::stage::executor::{CANARY, texts};
use crate::stage::parameters::CanariesParameter;

/// What canaries are an answer to.
const CANARY_PROMPT: &str = "Please help me with this.";
/// The share of a served judge's canaries whose verdict must stay what it was (SCIENCE.md C8).
const AGREEMENT: f64 = 0.99;

impl GenerativeStage {
    /// Whether the pipeline asks for canaries.
    pub(super) fn wants_canaries(&self) -> bool {
        !matches!(self.parameters.canaries, None | Some(CanariesParameter::Shipped(false)))
    }

    /// The share of a served judge's canaries whose verdict must stay.
    pub(super) fn agreement(&self) -> f64 {
        self.parameters.agreement.unwrap_or(AGREEMENT)
    }

    /// A label that a judge of verdicts does not have would be watched by nobody.
    ///
    /// # Errors
    /// See [`check_labels`] and [`Canaries::read`].
    pub(super) fn check_canaries(&self, files: &dyn Files) -> Result<(), Error> {
        let served = self.model.source.starts_with(fracture_served::SCHEME);
        if served && !self.wants_canaries() {
            return Ok(());
        }
        let folder = match served {
            true => Path::new("").to_owned(),
            false => files.model(&self.files()),
        };
        let canaries = texts(self.parameters.canaries.as_ref(), &folder, files);
        let checked = canaries.and_then(|canaries| check_labels(&canaries.unwrap_or_default(), &["unsafe", "safe"]));
        checked.map_err(|error| error.parameter(&["canaries"]))
    }

    /// What the readings of canaries depend on beside the judge's files.
    pub(super) fn canary_settings(&self, asking: &Asking) -> Value {
        json!({
            "words": asking.words.all(), "prefix": asking.prefix, "after": asking.after, "length": asking.max_length,
            "new": asking.max_new_tokens, "votes": asking.voting.map(|v| json!([v.count, v.temperature, v.seed])),
            "template": asking.template.digest(), "policy": self.parameters.policy,
        })
    }

    /// What is asked about a canary, which is put in by [`Question::about`].
    pub(super) fn canary_question(&self, asking: &Arc<Asking>) -> Question {
        let policy = self.parameters.policy.clone();
        let policy = policy.or_else(|| asking.template.policy.clone());
        let value = |name: &String| {
            let value = match name.as_str() {
                "policy" => policy.clone().unwrap_or_default(),
                "prompt" => CANARY_PROMPT.to_owned(),
                _ => String::new(),
            };
            (name.clone(), value)
        };
        Question {
            asking: Arc::clone(asking),
            values: asking.template.variables().iter().map(value).collect(),
        }
    }
}

/// A served judge that is asked about canaries before the first row and after the last one.
pub(super) struct WatchedExecutor {
    inner: ServedExecutor,
    canaries: Canaries,
    /// What is asked about each canary.
    asked: Vec<Arc<Asked>>,
    words: Words,
    /// What was found, for the record.
    found: Vec<(String, String)>,
    interrupted: bool,
}

impl WatchedExecutor {
    /// Asks about the canaries, and is ready when the verdicts are what they were.
    ///
    /// # Errors
    /// When the judge drifted, or can not be asked.
    pub fn new(inner: ServedExecutor, canaries: Canaries, asked: Vec<Arc<Asked>>, words: Words) -> Result<Self, Error> {
        let mut executor = Self {
            inner,
            canaries,
            asked,
            words,
            found: Vec::new(),
            interrupted: false,
        };
        executor.watch()?;
        Ok(executor)
    }

    /// Asks about the canaries while nothing else is inside.
    fn watch(&mut self) -> Result<(), Error> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; self.asked.len()];
        let mut landed = |ticket: Ticket, outcome| outcomes[(ticket.0 - CANARY) as usize] = Some(outcome);
        let mut next = 0;
        loop {
            while next < self.asked.len() && self.inner.room() > 0 {
                let request = Request {
                    key: Vec::new(),
                    cost: 1,
                    payload: self.asked[next].clone(),
                };
                self.inner.submit(Ticket(CANARY + next as u64), request)?;
                next += 1;
            }
            let more = next < self.asked.len();
            if self.inner.step(more, &mut landed)?.active == 0 && !more {
                break;
            }
        }
        let mut by = Vec::new();
        let mut read = |outcome: Option<Outcome>| -> Readings {
            match outcome {
                Some(Outcome::Raw(raw)) => {
                    let row = ServedVerdict::decode(&raw).map_err(|error| error.to_string())?;
                    let (bad, all) = VerdictScores::masses(&row.verdict, &self.words);
                    by.push(row.by);
                    Ok(vec![bad, all])
                }
                Some(Outcome::Failed(RowError { message })) => Err(message),
                None => Err("it did not come back".to_owned()),
            }
        };
        let readings: Vec<Readings> = outcomes.into_iter().map(&mut read).collect();
        self.canaries.check_expected(|index, label| {
            let p = match readings.get(index)?.as_deref() {
                Ok([bad, all]) if *all > 0.0 => bad / all,
                _ => return None,
            };
            Some(if label == "unsafe" { p } else { 1.0 - p })
        })?;
        self.canaries.check(readings, &identity::provenance(&by))?;
        self.found = self
            .canaries
            .found()
            .map(|found| ("canaries".to_owned(), found.to_owned()))
            .into_iter()
            .collect();
        Ok(())
    }
}

impl Executor for WatchedExecutor {
    fn room(&self) -> u32 {
        self.inner.room()
    }

    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error> {
        self.inner.submit(ticket, request)
    }

    fn step(&mut self, more: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let progress = self.inner.step(more, done)?;
        if !more && progress.active == 0 && !self.interrupted {
            self.watch()?;
        }
        Ok(progress)
    }

    fn withdraw(&mut self) -> Vec<Ticket> {
        // Whoever interrupts does not want to ask again.
        self.interrupted = true;
        self.inner.withdraw()
    }

    fn is_paid(&self) -> bool {
        self.inner.is_paid()
    }

    fn usage(&mut self) -> Usage {
        self.inner.usage()
    }

    fn provenance(&self) -> Vec<(String, String)> {
        self.inner.provenance().into_iter().chain(self.found.clone()).collect()
    }
}
