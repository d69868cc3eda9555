//! Asks a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use fracture_stage::{Error, Usage};
use serde_json::Value;

use crate::answer::Answer;
use crate::call::{Call, Protocol};
use crate::failure::{Failure, Sort};
use crate::model::Model;
use crate::transport::{CALL, Counts, OneCall, Transport};

/// A client of one served model.
pub struct Client {
    api: async_openai::Client<OpenAIConfig>,
    model: Arc<Model>,
    counts: Arc<Counts>,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

impl Client {
    /// A client; nothing is tried again once `stopping` is set.
    ///
    /// # Errors
    /// When the key is not in the environment.
    pub fn open(model: &Arc<Model>, stopping: Arc<AtomicBool>) -> Result<Self, Error> {
        let counts = Arc::new(Counts::default());
        let transport = Transport::new(model, Arc::clone(&counts), stopping)?;
        // The crate would take key, organisation and project from the environment, whatever server is asked; the key
        // that the pipeline names is put in below, by the transport.
        let config = OpenAIConfig::new()
            .with_api_key("")
            .with_org_id("")
            .with_project_id("")
            .with_api_base(model.address.as_str());
        Ok(Self {
            api: async_openai::Client::build(transport.http(), config).with_http_service(transport),
            model: Arc::clone(model),
            counts,
            prompt_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Asks once, with limits, retries and bounds. `flying` counts the requests that are on their way.
    ///
    /// # Errors
    /// Whatever stayed after the retries.
    pub async fn ask(&self, call: &Call, flying: &Arc<AtomicU32>) -> Result<Answer, Failure> {
        let one = OneCall {
            tokens: call.tokens,
            flying: Arc::clone(flying),
        };
        let (chat, completions) = (self.api.chat(), self.api.completions());
        let asked = async {
            match call.protocol {
                Protocol::Chat => chat.create_byot::<_, Value>(&call.body).await,
                Protocol::Completions => completions.create_byot::<_, Value>(&call.body).await,
            }
        };
        let body = CALL.scope(one, asked).await.map_err(failure)?;
        let answer = Answer::parse(body).map_err(|problem| Failure::new(Sort::Malformed, problem))?;
        let count = |total: &AtomicU64, tokens: Option<u32>| {
            total.fetch_add(tokens.unwrap_or(0).into(), Ordering::Relaxed);
        };
        count(&self.prompt_tokens, answer.prompt_tokens);
        count(&self.completion_tokens, answer.completion_tokens);
        Ok(answer)
    }

    /// What was used since the client was opened.
    pub fn usage(&self) -> Usage {
        let prompt_tokens = self.prompt_tokens.load(Ordering::Relaxed);
        let completion_tokens = self.completion_tokens.load(Ordering::Relaxed);
        // Servers that count nothing are not free of charge.
        let told = prompt_tokens + completion_tokens > 0;
        let cost = self
            .model
            .price
            .filter(|_| told)
            .map(|price| (prompt_tokens as f64 * price.input + completion_tokens as f64 * price.output) / 1e6);
        Usage {
            requests: self.counts.requests.load(Ordering::Relaxed),
            retries: self.counts.retries.load(Ordering::Relaxed),
            prompt_tokens,
            completion_tokens,
            cost,
        }
    }
}

fn failure(error: OpenAIError) -> Failure {
    match error {
        OpenAIError::Boxed(boxed) => match boxed.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(_) => Failure::new(Sort::Request, "the request could not be sent"),
        },
        // Their texts may hold what the server sent.
        OpenAIError::JSONDeserialize(error, _) => {
            Failure::new(Sort::Malformed, format!("the answer is no JSON: {error}"))
        }
        _ => Failure::new(Sort::Request, "the request could not be sent"),
    }
}
