//! Asking a judge that others serve: verdicts from the log-probabilities that the server tells, or from votes.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use fracture_generate::sampler::Stream;
use fracture_generate::template::{ChatTemplate, Ending, Message};
use fracture_served::call::{Asked, Input};
use fracture_served::identity::Identity;
use fracture_served::row::now;
use fracture_served::{Answer, Call, Client, Failure, Finish, Job, JobFuture, Model, Protocol, Sort};
use fracture_stage::Error;
use serde_json::{Value, json};

use super::judge::Question;
use super::prompt::Asking;
use super::raw::{RawVerdict, Vote};
use super::template::Form;

/// A verdict may be spelled by so many tokens.
const DEPTH: usize = 6;
/// A beginning of a verdict that holds less of the probability is not followed, as a logarithm (1e-4).
const FOLLOWED: f64 = -9.21;

/// What a judge is given.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Messages: the server applies its chat template.
    Chat(Value),
    /// A text that it continues.
    Text(String),
}

impl Prompt {
    /// The prompt of a question. `template` is the chat template that is applied here.
    ///
    /// # Errors
    /// What the templates raise.
    pub fn new(question: &Question, protocol: Protocol, template: Option<&ChatTemplate>) -> Result<Self, Error> {
        let asking = &*question.asking;
        let told = |cause: String| Error::task("the judge's template fails").cause(cause);
        let text = asking.template.render(&question.values).map_err(told)?;
        let (turns, ending) = match asking.template.form {
            Form::Text => return Ok(Self::Text(text + &asking.prefix)),
            Form::Message => (vec![Message::new("user", text)], Ending::Answer),
            Form::Conversation => {
                let prompt = question.values.get("prompt").map_or("", String::as_str);
                let turns = vec![Message::new("user", prompt), Message::new("assistant", text)];
                (turns, Ending::Nothing)
            }
        };
        match (protocol, template) {
            (Protocol::Chat, _) => {
                let turns = turns
                    .iter()
                    .map(|turn| json!({ "role": turn.role, "content": turn.content }));
                Ok(Self::Chat(turns.collect()))
            }
            (Protocol::Completions, Some(template)) => {
                Ok(Self::Text(template.render(&turns, ending)?.0 + &asking.prefix))
            }
            (Protocol::Completions, None) => {
                let texts: Vec<&str> = turns.iter().map(|turn| turn.content.as_str()).collect();
                Ok(Self::Text(texts.join("\n\n") + &asking.prefix))
            }
        }
    }

    /// The prompt as a row's key holds it.
    pub fn key(&self) -> String {
        match self {
            Self::Chat(messages) => messages.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    fn input(&self) -> Input<'_> {
        match self {
            Self::Chat(messages) => Input::Messages(messages),
            Self::Text(text) => Input::Text(text),
        }
    }

    /// The prompt with something that the model wrote; `None` in a chat, which can not go on within a turn.
    fn and(&self, written: &str) -> Option<Self> {
        match self {
            Self::Chat(_) => None,
            Self::Text(text) => Some(Self::Text(format!("{text}{written}"))),
        }
    }
}

/// The work of one text.
pub struct Asks {
    /// The model.
    pub model: Arc<Model>,
    /// How it is asked.
    pub asking: Arc<Asking>,
    /// What it is given.
    pub prompt: Prompt,
}

impl Job for Asks {
    fn run(&self, client: Arc<Client>, flying: Arc<AtomicU32>) -> JobFuture {
        let (model, asking, prompt) = (Arc::clone(&self.model), Arc::clone(&self.asking), self.prompt.clone());
        Box::pin(async move {
            let asker = Asker {
                client,
                flying,
                model,
                asking,
            };
            let verdict = match (asker.asking.voting, asker.asking.after.clone()) {
                (Some(_), _) => asker.votes(&prompt).await?,
                (None, Some(after)) => asker.weigh_after(&prompt, &after).await?,
                (None, None) => asker.weigh(&prompt).await?,
            };
            Ok(verdict.encode())
        })
    }
}

/// A raw row: what the model said, and who said it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedVerdict {
    /// What it said.
    pub verdict: RawVerdict,
    /// Who answered last.
    pub by: Identity,
}

impl ServedVerdict {
    /// Bytes: the length of the identity as little-endian u32, the identity as JSON, the verdict's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let by = serde_json::to_vec(&self.by).unwrap_or_default();
        let mut bytes = (by.len() as u32).to_le_bytes().to_vec();
        bytes.extend(by);
        bytes.extend(self.verdict.encode());
        bytes
    }

    /// The row of bytes.
    ///
    /// # Errors
    /// When they are no such row.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let broken = || Error::internal("a stored row of a served judge can not be read");
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(broken)?;
        let (by, verdict) = rest
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or_else(broken)?;
        Ok(Self {
            by: serde_json::from_slice(by).map_err(|error| broken().cause(error))?,
            verdict: RawVerdict::decode(verdict)?,
        })
    }
}

struct Asker {
    client: Arc<Client>,
    flying: Arc<AtomicU32>,
    model: Arc<Model>,
    asking: Arc<Asking>,
}

impl Asker {
    async fn ask(&self, prompt: &Prompt, asked: &Asked) -> Result<Answer, Failure> {
        self.client
            .ask(&Call::new(&self.model, prompt.input(), asked), &self.flying)
            .await
    }

    /// Sampled answers.
    async fn votes(&self, prompt: &Prompt) -> Result<ServedVerdict, Failure> {
        let Some(voting) = self.asking.voting else {
            return Err(Failure::new(Sort::Request, "no votes were asked for"));
        };
        let key = prompt.key();
        let (mut votes, mut by) = (Vec::new(), Identity::default());
        for vote in 0..voting.count {
            let Stream([a, b, c, d, ..]) = Stream::new(voting.seed, "judge", &key, vote, 0);
            let asked = Asked {
                temperature: voting.temperature,
                seed: (voting.temperature > 0.0).then(|| u32::from_le_bytes([a, b, c, d]) >> 1),
                ..self.written(Vec::new())
            };
            let answer = self.ask(prompt, &asked).await?;
            by = Identity::of(&answer, now());
            let said = match &self.asking.after {
                None => Some(answer.text.as_str()),
                Some(after) => answer.text.split_once(after.as_str()).map(|(_, said)| said),
            };
            votes.push(Vote {
                text: said.unwrap_or_default().to_owned(),
                cut: answer.finish == Finish::Length,
            });
        }
        let verdict = RawVerdict::Voted {
            truncated: false,
            votes,
        };
        Ok(ServedVerdict { verdict, by })
    }

    fn written(&self, stop: Vec<String>) -> Asked {
        Asked {
            temperature: 0.0,
            top_p: 1.0,
            max_new_tokens: self.asking.max_new_tokens,
            stop,
            seed: None,
            logprobs: None,
        }
    }

    /// Lets the model write up to `after`, then weighs what may follow.
    async fn weigh_after(&self, prompt: &Prompt, after: &str) -> Result<ServedVerdict, Failure> {
        let answer = self.ask(prompt, &self.written(vec![after.to_owned()])).await?;
        // Servers leave a stop string out; one that keeps it is understood, too.
        let written = answer.text.split(after).next().unwrap_or_default();
        let next = prompt.and(&format!("{written}{after}"));
        match next.filter(|_| answer.finish != Finish::Length) {
            Some(next) => self.weigh(&next).await,
            None => Ok(ServedVerdict {
                by: Identity::of(&answer, now()),
                verdict: RawVerdict::Silent { truncated: false },
            }),
        }
    }

    /// The log-probabilities of the verdicts as the next words.
    async fn weigh(&self, prompt: &Prompt) -> Result<ServedVerdict, Failure> {
        let words = Spelled::new(&self.asking.words.all());
        let (mut candidates, mut by) = (Vec::new(), Identity::default());
        // What was written of a verdict, and the log-probability of that.
        let mut open = vec![(prompt.clone(), String::new(), 0.0)];
        for _ in 0..DEPTH {
            let mut further = Vec::new();
            for (prompt, begun, logprob) in open {
                let answer = self.ask(&prompt, &self.next_token()).await?;
                by = Identity::of(&answer, now());
                for (token, own) in alternatives(&answer)? {
                    let (text, sum) = (format!("{begun}{token}"), logprob + own);
                    match (words.read(&text), prompt.and(&token)) {
                        (Read::Word(word), _) => candidates.push((word, sum)),
                        (Read::Begun(_), Some(next)) if sum > FOLLOWED => further.push((next, text, sum)),
                        // In a chat nothing can be followed: what begins one verdict and no other counts as that one.
                        (Read::Begun(Some(word)), None) => candidates.push((word, sum)),
                        _ => {}
                    }
                }
            }
            if further.is_empty() {
                break;
            }
            open = further;
        }
        let verdict = RawVerdict::Weighed {
            truncated: false,
            candidates,
        };
        Ok(ServedVerdict { verdict, by })
    }

    fn next_token(&self) -> Asked {
        // As many as the public API gives.
        let few = self.model.address.is_public_api();
        let top = match self.asking.template.form {
            _ if !few => 20,
            Form::Text => 5,
            _ if self.model.chat_template.is_some() || self.model.protocol == Some(Protocol::Completions) => 5,
            _ => 20,
        };
        Asked {
            max_new_tokens: 1,
            logprobs: Some(top),
            ..self.written(Vec::new())
        }
    }
}

/// The tokens that the server tells of for the first place, each once.
fn alternatives(answer: &Answer) -> Result<Vec<(String, f64)>, Failure> {
    let first = answer.tokens.as_ref().and_then(|tokens| tokens.first());
    let Some(first) = first else {
        // An end of the text right away: no verdict is probable. A text of no tokens is none that can be weighed.
        return match answer.text.is_empty() {
            true => Ok(Vec::new()),
            false => Err(Failure::new(
                Sort::Request,
                "the server gives no log-probabilities; ask for `votes` instead",
            )),
        };
    };
    let mut all = first.top.clone();
    if !all.iter().any(|(token, _)| *token == first.token) {
        all.push((first.token.clone(), first.logprob));
    }
    Ok(all)
}

/// The words of an answer, as texts spell them.
struct Spelled(Vec<String>);

/// What a text is of the words.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// One of them.
    Word(u16),
    /// The beginning of some; which, if of one only.
    Begun(Option<u16>),
    /// None.
    Nothing,
}

impl Spelled {
    fn new(words: &[String]) -> Self {
        Self(words.iter().map(|word| word.trim().to_lowercase()).collect())
    }

    /// Reads the beginning of an answer, whatever its case and the spaces before it.
    fn read(&self, text: &str) -> Read {
        let text = text.trim_start().to_lowercase();
        let number = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
        let is = |word: &String| {
            let rest = text.strip_prefix(word.as_str());
            rest.is_some_and(|rest| rest.chars().next().is_none_or(|next| !next.is_alphanumeric()))
        };
        let longest = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, word)| is(word))
            .max_by_key(|(_, word)| word.len());
        if let Some((index, _)) = longest {
            return Read::Word(number(index));
        }
        let mut begun = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, word)| word.starts_with(text.as_str()));
        match (begun.next(), begun.next()) {
            (None, _) => Read::Nothing,
            (Some((index, _)), None) => Read::Begun(Some(number(index))),
            (Some(_), Some(_)) => Read::Begun(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fracture_served::TokenScore;

    use super::*;

    #[test]
    fn tokens_are_words_or_their_beginnings() {
        let words = Spelled::new(&["safe".to_owned(), "Unsafe".to_owned(), "yes sir".to_owned()]);
        for (text, read) in [
            ("safe", Read::Word(0)),
            (" Safe", Read::Word(0)),
            ("\nUNSAFE\n", Read::Word(1)),
            ("unsafe.", Read::Word(1)),
            ("un", Read::Begun(Some(1))),
            (" ", Read::Begun(None)),
            ("yes", Read::Begun(Some(2))),
            ("safely", Read::Nothing),
            ("no", Read::Nothing),
        ] {
            assert_eq!(words.read(text), read, "{text:?}");
        }
    }

    #[test]
    fn a_text_without_log_probabilities_is_refused() {
        let answer = |text: &str, tokens: Option<Vec<TokenScore>>| Answer {
            text: text.to_owned(),
            reasoning: None,
            finish: Finish::Length,
            tokens,
            prompt_tokens: None,
            completion_tokens: None,
            model: None,
            fingerprint: None,
        };
        for tokens in [None, Some(Vec::new())] {
            let failure = alternatives(&answer("safe", tokens.clone())).unwrap_err();
            assert!(
                format!("{failure:?}").contains("gives no log-probabilities"),
                "{failure:?}"
            );
            assert_eq!(alternatives(&answer("", tokens)).unwrap(), []);
        }
        let token = TokenScore {
            token: "safe".to_owned(),
            logprob: -0.5,
            top: vec![("unsafe".to_owned(), -1.0)],
        };
        let all = alternatives(&answer("safe", Some(vec![token]))).unwrap();
        assert_eq!(all, [("unsafe".to_owned(), -1.0), ("safe".to_owned(), -0.5)]);
    }

    #[test]
    fn a_row_comes_back() {
        let row = ServedVerdict {
            verdict: RawVerdict::Weighed {
                truncated: false,
                candidates: vec![(1, -0.25)],
            },
            by: Identity {
                model: Some("m".to_owned()),
                fingerprint: None,
                at: 7,
            },
        };
        let bytes = row.encode();
        assert_eq!(ServedVerdict::decode(&bytes).unwrap(), row);
        for cut in 0..bytes.len() {
            assert!(ServedVerdict::decode(&bytes[..cut]).is_err());
        }
    }
}
