//! The judges as executors, with their canaries.

use std::path::Path;
use std::sync::Arc;

use fracture_stage::{Error, Executor, FileUse, Files, Outcome, Progress, Request, RowError, Ticket};

use super::parameters::CanariesParameter;
use crate::canaries::{Canaries, Canary, OWN, Readings};
use crate::classifier::Classifier;
use crate::generative::{GenerativeJudge, Question, RawVerdict, VerdictScores};
use crate::raw::RawRow;
use crate::score;
use crate::tokenize::Text;

/// The texts that a stage asks for as canaries, `None` where it asks for none; without a word those in the judge's folder,
/// else the shipped ones.
///
/// # Errors
/// See [`Canaries::read`].
pub(super) fn texts(
    parameter: Option<&CanariesParameter>,
    folder: &Path,
    files: &dyn Files,
) -> Result<Option<Vec<Canary>>, Error> {
    let own = folder.join(OWN);
    Ok(match parameter {
        Some(CanariesParameter::Shipped(false)) => None,
        Some(CanariesParameter::File(path)) => Some(Canaries::read(path, files)?),
        Some(CanariesParameter::Texts(texts)) => Some(texts.iter().cloned().map(Canary::from).collect()),
        None if own.is_file() => Some(Canaries::read(&own.to_string_lossy(), files)?),
        None | Some(CanariesParameter::Shipped(true)) => Some(Canaries::shipped()),
    })
}

/// The canaries that a stage asks for ([`texts`]).
///
/// # Errors
/// See [`Canaries::read`] and [`Canaries::new`].
pub(super) fn canaries(
    parameter: Option<&CanariesParameter>,
    folder: &Path,
    judge: &str,
    uses: &[FileUse],
    settings: &str,
    files: &dyn Files,
) -> Result<Option<Canaries>, Error> {
    let texts = texts(parameter, folder, files)?;
    texts
        .map(|texts| Canaries::new(texts, judge, uses, settings, files))
        .transpose()
}

/// A classifier as an executor.
pub(super) struct ClassifierExecutor {
    classifier: Classifier,
    canaries: Option<Canaries>,
    /// What the pipeline calls the labels.
    labels: Vec<String>,
}

impl ClassifierExecutor {
    /// Scores the canaries, and is ready when they score what they did. `labels` are the judge's under the pipeline's names.
    ///
    /// # Errors
    /// When the judge drifted or can not run.
    pub fn new(classifier: Classifier, canaries: Option<Canaries>, labels: Vec<String>) -> Result<Self, Error> {
        let mut executor = Self {
            classifier,
            canaries,
            labels,
        };
        executor.watch()?;
        Ok(executor)
    }

    /// Scores the canaries while nothing else is inside.
    fn watch(&mut self) -> Result<(), Error> {
        let Some(canaries) = &mut self.canaries else {
            return Ok(());
        };
        let count = canaries.texts().len();
        for (index, text) in canaries.texts().enumerate() {
            self.classifier.submit(Ticket(index as u64), Text::One(text.to_owned()));
        }
        let mut outcomes = vec![None; count];
        while self
            .classifier
            .step(false, &mut |ticket, outcome| {
                outcomes[ticket.0 as usize] = Some(outcome)
            })?
            .active
            > 0
        {}
        let config = self.classifier.config();
        let mut cut = vec![false; count];
        let mut read = |(index, outcome): (usize, Option<Outcome>)| -> Readings {
            let raw = match outcome {
                Some(Outcome::Raw(raw)) => RawRow::decode(&raw).map_err(|error| error.to_string())?,
                Some(Outcome::Failed(error)) => return Err(error.message),
                None => return Err("it did not come back".to_owned()),
            };
            cut[index] = raw.truncated;
            let mut readings = Vec::new();
            for logits in &raw.logits {
                let activation = config.activation(logits.len()).map_err(|error| error.to_string())?;
                readings.extend(score::probabilities(activation, logits));
            }
            Ok(readings)
        };
        let readings: Vec<Readings> = outcomes.into_iter().enumerate().map(&mut read).collect();
        // What a file says holds for whole texts: not for one that was cut here, nor for one of several windows.
        let labels = &self.labels;
        let place = |label: &str| {
            let named = |all: &[String]| all.iter().position(|known| known == label);
            named(labels).or_else(|| named(&config.labels))
        };
        canaries.check_expected(|index, label| {
            let place = place(label).filter(|_| !cut[index])?;
            let readings = readings
                .get(index)?
                .as_ref()
                .ok()
                .filter(|all| all.len() == labels.len());
            readings.and_then(|all| all.get(place)).copied()
        })?;
        canaries.check(readings, &self.classifier.provenance())
    }
}

impl Executor for ClassifierExecutor {
    fn room(&self) -> u32 {
        self.classifier.room()
    }

    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error> {
        let text = request
            .payload
            .downcast_ref::<Text>()
            .ok_or_else(|| Error::internal("a judge was given something that is no text"))?;
        self.classifier.submit(ticket, text.clone());
        Ok(())
    }

    fn step(&mut self, more: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let progress = self.classifier.step(more, done)?;
        if !more && progress.active == 0 {
            // The rows of this last step are handed out only by a judge that did not move.
            self.watch()?;
        }
        Ok(progress)
    }

    fn withdraw(&mut self) -> Vec<Ticket> {
        self.classifier.withdraw()
    }

    fn provenance(&self) -> Vec<(String, String)> {
        self.classifier.provenance()
    }
}

/// Tickets of canaries; those of rows count up from 0.
pub(super) const CANARY: u64 = 1 << 63;

/// A generative judge as an executor.
pub(super) struct GenerativeExecutor {
    judge: GenerativeJudge,
    /// The canaries and how they are asked.
    canaries: Option<(Canaries, Question)>,
}

impl GenerativeExecutor {
    /// Asks about the canaries, and is ready when they score what they did. They are responses to the prompt of `question`.
    ///
    /// # Errors
    /// When the judge drifted or can not run.
    pub fn new(judge: GenerativeJudge, canaries: Option<Canaries>, question: Question) -> Result<Self, Error> {
        let canaries = canaries.map(|canaries| (canaries, question));
        let mut executor = Self { judge, canaries };
        executor.watch()?;
        Ok(executor)
    }

    fn watch(&mut self) -> Result<(), Error> {
        let Some((canaries, question)) = &mut self.canaries else {
            return Ok(());
        };
        for (index, text) in canaries.texts().enumerate() {
            let ticket = Ticket(CANARY + index as u64);
            self.judge.submit(ticket, Arc::new(question.about(text)))?;
        }
        let mut outcomes: Vec<Option<Outcome>> = vec![None; canaries.texts().len()];
        let mut landed = |ticket: Ticket, outcome| outcomes[(ticket.0 - CANARY) as usize] = Some(outcome);
        while self.judge.step(&mut landed)?.active > 0 {}
        let words = &question.asking.words;
        let read = |outcome: Option<Outcome>| -> Readings {
            match outcome {
                Some(Outcome::Raw(raw)) => {
                    let raw = RawVerdict::decode(&raw).map_err(|error| error.to_string())?;
                    let (bad, all) = VerdictScores::masses(&raw, words);
                    Ok(vec![bad, all])
                }
                Some(Outcome::Failed(RowError { message })) => Err(message),
                None => Err("it did not come back".to_owned()),
            }
        };
        let readings: Vec<Readings> = outcomes.into_iter().map(read).collect();
        canaries.check_expected(|index, label| match readings.get(index)?.as_deref() {
            Ok([bad, all]) if label == "unsafe" && *all > 0.0 => Some(bad / all),
            Ok([bad, all]) if label == "safe" && *all > 0.0 => Some(1.0 - bad / all),
            _ => None,
        })?;
        canaries.check(readings, &self.judge.provenance())
    }
}

impl Executor for GenerativeExecutor {
    fn room(&self) -> u32 {
        self.judge.room()
    }

    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error> {
        let question = Arc::downcast::<Question>(request.payload)
            .map_err(|_| Error::internal("a generative judge was given something that is no question"))?;
        self.judge.submit(ticket, question)
    }

    fn step(&mut self, more: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let progress = self.judge.step(done)?;
        if !more && progress.active == 0 {
            self.watch()?;
        }
        Ok(progress)
    }

    fn withdraw(&mut self) -> Vec<Ticket> {
        self.judge.withdraw()
    }

    fn provenance(&self) -> Vec<(String, String)> {
        self.judge.provenance()
    }
}
