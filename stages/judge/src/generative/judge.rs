//! A language model as a judge: questions in, raw rows out, on the running batch of `generate`.
//!
//! A row's bits depend on its own prompt alone, since the engine's do. Prompts are tokenized while the model computes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use fracture_generate::engine::{Engine, Finished, Request};
use fracture_generate::sampler::{Sampling, Stream};
use fracture_generate::text::Text;
use fracture_stage::{Error, ErrorKind, Outcome, Progress, RowError, Ticket};

use super::candidates::Candidates;
use super::prompt::{Asking, Renderer};
use super::raw::{RawVerdict, Vote};

/// Texts inside at once.
const CAPACITY: usize = 512;
/// Texts that are tokenized in one step.
const TOKENIZED: usize = 64;

/// What is asked about one text.
#[derive(Debug, Clone)]
pub struct Question {
    /// How.
    pub asking: Arc<Asking>,
    /// The values of the template's variables.
    pub values: BTreeMap<String, String>,
}

impl Question {
    /// The same about another answer.
    pub fn about(&self, response: &str) -> Self {
        let mut question = self.clone();
        question.values.insert("response".to_owned(), response.to_owned());
        question
    }
}

/// What a finished request of the engine was for.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// What the model writes before its verdict.
    Before,
    /// The tokens at a node.
    Node(usize),
    /// A sampled answer.
    Vote(usize),
}

/// A text inside.
struct Row {
    ticket: Ticket,
    asking: Arc<Asking>,
    candidates: Arc<Candidates>,
    prompt: Arc<[u32]>,
    truncated: bool,
    scores: Vec<Vec<f64>>,
    votes: Vec<Vote>,
    left: usize,
}

/// A prompt that was tokenized, and whether it was cut.
type Tokenized = Result<(Vec<u32>, bool), Error>;

/// A loaded judge.
pub struct GenerativeJudge {
    engine: Engine,
    text: Arc<Text>,
    shown: String,
    candidates: HashMap<Vec<String>, Arc<Candidates>>,
    new: VecDeque<(Ticket, Arc<Question>)>,
    rows: HashMap<u64, Row>,
    requests: HashMap<u64, (u64, Part)>,
    next: u64,
}

impl GenerativeJudge {
    /// A judge of a loaded model. `shown` names it in errors.
    pub fn new(engine: Engine, text: Arc<Text>, shown: &str) -> Self {
        Self {
            engine,
            text,
            shown: shown.to_owned(),
            candidates: HashMap::new(),
            new: VecDeque::new(),
            rows: HashMap::new(),
            requests: HashMap::new(),
            next: 0,
        }
    }

    /// How many texts fit now.
    pub fn room(&self) -> u32 {
        CAPACITY.saturating_sub(self.active()) as u32
    }

    /// Texts inside.
    pub fn active(&self) -> usize {
        self.new.len() + self.rows.len()
    }

    /// Takes a text.
    ///
    /// # Errors
    /// When the model's tokenizer can not spell the verdicts, or its context is shorter than what is asked for.
    pub fn submit(&mut self, ticket: Ticket, question: Arc<Question>) -> Result<(), Error> {
        let words = question.asking.words.all();
        let told = |error: Error| error.context(format!("the judge `{}` can not be asked", self.shown));
        if !self.candidates.contains_key(&words) {
            let found = Candidates::new(&words, &self.text).map_err(told)?;
            self.candidates.insert(words.clone(), Arc::new(found));
        }
        let depth = self.candidates.get(&words).map_or(0, |found| found.depth());
        if let Some((parameter, message)) = question.asking.excess(self.engine.context(), depth) {
            return Err(told(Error::pipeline(message).parameter(&[parameter])));
        }
        self.new.push_back((ticket, question));
        Ok(())
    }

    /// Gives back the texts that the engine was not given yet.
    pub fn withdraw(&mut self) -> Vec<Ticket> {
        self.new.drain(..).map(|(ticket, _)| ticket).collect()
    }

    /// Computes for a moment and hands out the texts that are finished.
    ///
    /// # Errors
    /// When the model can not be run at all; a text that can not be judged fails alone.
    pub fn step(&mut self, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        let before = self.active();
        let taken = self.new.len().min(TOKENIZED);
        let texts: Vec<(Ticket, Arc<Question>)> = self.new.drain(..taken).collect();
        let mut finished: Vec<(u64, Result<Finished, Error>)> = Vec::new();
        let tokenized = if self.requests.is_empty() {
            self.tokenize(&texts)
        } else {
            // The engine has work: tokenizing goes on beside it.
            let (text, candidates, context) = (&*self.text, &self.candidates, self.engine.context());
            let engine = &mut self.engine;
            std::thread::scope(|scope| {
                let other = scope.spawn(|| tokenize(text, candidates, context, &texts));
                let stepped = engine.step(&mut |ticket, result| finished.push((ticket, result)));
                let tokenized = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                stepped.map(|_| tokenized)
            })?
        };
        for ((ticket, question), tokenized) in texts.into_iter().zip(tokenized) {
            if let Err(error) = self.begin(ticket, &question, tokenized) {
                fail(ticket, &self.shown, &error, done);
            }
        }
        for (request, result) in finished {
            self.landed(request, result, done)?;
        }
        Ok(Progress {
            active: self.active() as u32,
            units: before.saturating_sub(self.active()) as u64,
        })
    }

    fn tokenize(&self, texts: &[(Ticket, Arc<Question>)]) -> Vec<Tokenized> {
        tokenize(&self.text, &self.candidates, self.engine.context(), texts)
    }

    /// Asks the model about a text for the first time.
    fn begin(&mut self, ticket: Ticket, question: &Question, tokenized: Tokenized) -> Result<(), Error> {
        let (prompt, truncated) = tokenized?;
        let asking = Arc::clone(&question.asking);
        let candidates = self
            .candidates
            .get(&asking.words.all())
            .cloned()
            .ok_or_else(|| Error::internal("verdicts without spellings"))?;
        let id = self.next;
        self.next += 1;
        let mut row = Row {
            ticket,
            scores: vec![Vec::new(); candidates.nodes().len()],
            candidates,
            prompt: prompt.into(),
            truncated,
            votes: Vec::new(),
            left: 1,
            asking,
        };
        let asked = match (row.asking.voting, &row.asking.after) {
            (Some(voting), _) => {
                let rendered = Renderer {
                    asking: &row.asking,
                    text: &self.text,
                }
                .render(&question.values)?;
                let empty = Vote {
                    text: String::new(),
                    cut: false,
                };
                row.votes = vec![empty; voting.count as usize];
                row.left = row.votes.len();
                let sampling = Sampling {
                    temperature: voting.temperature as f32,
                    ..Sampling::default()
                };
                (0..voting.count).try_for_each(|vote| {
                    let stream = Stream::new(voting.seed, "judge", &rendered.text, vote, 0);
                    let request = self.write(&row, sampling.clone(), stream);
                    self.ask(id, Part::Vote(vote as usize), request)
                })
            }
            (None, Some(after)) => {
                let mut request = self.write(&row, Sampling::default(), Stream([0; 32]));
                request.stop = vec![after.clone()];
                self.ask(id, Part::Before, request)
            }
            (None, None) => self.weigh(id, &row, 0),
        };
        asked.map(|()| drop(self.rows.insert(id, row)))
    }

    fn write(&self, row: &Row, sampling: Sampling, stream: Stream) -> Request {
        Request {
            prompt: Arc::clone(&row.prompt),
            sampling,
            stream,
            max_new_tokens: row.asking.max_new_tokens,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }

    fn ask(&mut self, row: u64, part: Part, request: Request) -> Result<(), Error> {
        let ticket = self.next;
        self.next += 1;
        self.engine.submit(ticket, request)?;
        self.requests.insert(ticket, (row, part));
        Ok(())
    }

    /// Asks for the tokens at a node of the verdicts' tree.
    fn weigh(&mut self, id: u64, row: &Row, node: usize) -> Result<(), Error> {
        let place = &row.candidates.nodes()[node];
        let prompt = match place.path.is_empty() {
            true => Arc::clone(&row.prompt),
            false => row.prompt.iter().chain(&place.path).copied().collect(),
        };
        let ticket = self.next;
        self.next += 1;
        self.engine.submit_scored(ticket, prompt, Arc::clone(&place.tokens))?;
        self.requests.insert(ticket, (id, Part::Node(node)));
        Ok(())
    }

    /// Takes what the engine gave for a part of a row.
    fn landed(
        &mut self,
        request: u64,
        result: Result<Finished, Error>,
        done: &mut dyn FnMut(Ticket, Outcome),
    ) -> Result<(), Error> {
        let Some((id, part)) = self.requests.remove(&request) else {
            return Err(Error::internal("the engine gave an answer that was not asked for"));
        };
        // A row that failed is gone; what else was asked for it does not matter.
        let Some(mut row) = self.rows.remove(&id) else {
            return Ok(());
        };
        let ticket = row.ticket;
        match result.and_then(|finished| self.take(id, &mut row, part, finished)) {
            Err(error) if error.kind == ErrorKind::Internal => return Err(error),
            Err(error) => fail(ticket, &self.shown, &error, done),
            Ok(Some(raw)) => done(ticket, Outcome::Raw(raw.encode())),
            Ok(None) => drop(self.rows.insert(id, row)),
        }
        Ok(())
    }

    /// The row when this part was its last.
    fn take(&mut self, id: u64, row: &mut Row, part: Part, finished: Finished) -> Result<Option<RawVerdict>, Error> {
        let truncated = row.truncated;
        row.left -= 1;
        match part {
            Part::Before => {
                let written = match &row.asking.after {
                    Some(after) => self.written(&finished.row.tokens, after)?,
                    None => Some(Vec::new()),
                };
                let Some(written) = written else {
                    return Ok(Some(RawVerdict::Silent { truncated }));
                };
                row.prompt = row.prompt.iter().copied().chain(written).collect();
                row.left = 1;
                self.weigh(id, row, 0)?;
            }
            Part::Node(node) => {
                row.scores[node] = finished.scores;
                if node == 0 {
                    row.left = row.candidates.nodes().len() - 1;
                    for other in 1..row.candidates.nodes().len() {
                        self.weigh(id, row, other)?;
                    }
                }
                if row.left == 0 {
                    let candidates = row.candidates.weigh(&row.scores);
                    return Ok(Some(RawVerdict::Weighed { truncated, candidates }));
                }
            }
            Part::Vote(vote) => {
                let after = row.asking.after.as_deref();
                let said = after.map_or(Some(finished.text.as_str()), |after| {
                    finished.text.split_once(after).map(|(_, said)| said)
                });
                row.votes[vote] = Vote {
                    text: said.unwrap_or_default().to_owned(),
                    cut: finished.row.reason == fracture_generate::raw::FinishReason::Length,
                };
                if row.left == 0 {
                    let votes = std::mem::take(&mut row.votes);
                    return Ok(Some(RawVerdict::Voted { truncated, votes }));
                }
            }
        }
        Ok(None)
    }

    /// The tokens of an answer up to the end of `after`; `None` when it does not come.
    fn written(&self, tokens: &[u32], after: &str) -> Result<Option<Vec<u32>>, Error> {
        for end in 1..=tokens.len() {
            let text = self.text.decode(&tokens[..end], false)?;
            if let Some(at) = text.find(after) {
                let text = &text[..at + after.len()];
                // A last token that reaches beyond it is written anew.
                return match self.text.decode(&tokens[..end], false)?.len() == text.len() {
                    true => Ok(Some(tokens[..end].to_vec())),
                    false => self.text.encode(text, false).map(Some),
                };
            }
        }
        Ok(None)
    }

    /// Which numeric class computes here.
    pub fn provenance(&self) -> Vec<(String, String)> {
        vec![("unit".to_owned(), fracture_generate::Unit::best().name().to_owned())]
    }
}

fn fail(ticket: Ticket, shown: &str, error: &Error, done: &mut dyn FnMut(Ticket, Outcome)) {
    let message = format!("the judge `{shown}`: {error}");
    done(ticket, Outcome::Failed(RowError { message }));
}

/// Tokenizes texts; a prompt leaves room for what the model is asked for.
fn tokenize(
    text: &Text,
    candidates: &HashMap<Vec<String>, Arc<Candidates>>,
    context: usize,
    texts: &[(Ticket, Arc<Question>)],
) -> Vec<Tokenized> {
    let one = |question: &Question| {
        let asking = &*question.asking;
        let depth = candidates.get(&asking.words.all()).map_or(0, |found| found.depth());
        let room = asking.room(context, depth);
        let limit = asking.max_length.unwrap_or(room);
        Renderer { asking, text }.tokens(&question.values, limit)
    };
    texts.iter().map(|(_, question)| one(question)).collect()
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
