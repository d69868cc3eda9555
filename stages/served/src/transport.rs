//! Below the client's requests: limits, retries, bounds on time and size, and the key.
//!
//! It is a tower service, so that the client crate keeps doing what it is good at (bodies, paths, types) and what
//! happens on the wire is decided here: nothing follows a redirect, nothing is read without bound, no answer that is
//! not one gets through, and what fails is told without the key.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use backon::{BackoffBuilder, ExponentialBuilder};
use fracture_stage::{Error, ErrorKind, retry_after};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Request, Response};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::failure::{Failure, Sort};
use crate::limits::Gate;
use crate::model::Model;
use crate::secret::Secret;

/// An answer may be this long, bytes.
const LARGEST: usize = 16 << 20;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);

/// The first wait before a request is tried again, and the longest one that is not asked for by the server.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A server that never answered is tried again so often: it is not there.
const KNOCKS: u32 = 3;

/// A server that asks to wait longer than this is not waited for.
const PATIENCE: Duration = Duration::from_secs(900);

/// The type of an answer is told up to this length, characters.
const KIND: usize = 60;

/// What the filter of a server refused to read is an answer: an empty one with that reason.
const FILTERED: &str = r#"{"choices":[{"text":"","message":{"content":""},"finish_reason":"content_filter"}]}"#;

tokio::task_local! {
    /// The call that is being sent.
    pub static CALL: OneCall;
}

/// What the transport must know of a call beside its request.
#[derive(Debug, Clone)]
pub struct OneCall {
    /// About how many tokens it takes.
    pub tokens: u32,
    /// How many of the row's requests are on their way.
    pub flying: Arc<AtomicU32>,
}

/// What was sent since the beginning.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests, repeated ones included.
    pub requests: AtomicU64,
    /// Repeated ones.
    pub retries: AtomicU64,
    /// Those that were answered, in whatever way.
    pub answered: AtomicU64,
}

/// The way to a server.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    key: Option<Secret>,
    gate: Arc<Gate>,
    timeout: Duration,
    retries: u32,
    counts: Arc<Counts>,
    stopping: Arc<AtomicBool>,
}

impl Transport {
    /// The way to the server of a model. Nothing is tried again once `stopping` is set.
    ///
    /// # Errors
    /// When the key is not in the environment, or no client can be made.
    pub fn new(model: &Model, counts: Arc<Counts>, stopping: Arc<AtomicBool>) -> Result<Self, Error> {
        let key = model.key_variable.as_deref();
        let key = key
            .map(|variable| Secret::from_env(variable, &model.shown))
            .transpose()?;
        // Whoever comes first decides for the process; all of us ask for the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .user_agent(concat!("fracture/", env!("CARGO_PKG_VERSION")));
        if model.address.is_local() {
            // A proxy would carry the key away from this machine.
            http = http.no_proxy();
        }
        if model.address.is_plain() {
            // No redirect is followed, so nothing is encrypted, and no machine needs certificates for that.
            http = http.tls_certs_only(std::iter::empty());
        }
        let http = http
            .build()
            .map_err(|error| Error::new(ErrorKind::Environment, "no HTTP client can be made").cause(cause(error)))?;
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                key,
                gate: Gate::of(model),
                timeout: model.timeout,
                retries: model.retries,
                counts,
                stopping,
            }),
        })
    }
}

impl Transport {
    /// The client that makes requests.
    pub fn http(&self) -> reqwest::Client {
        self.inner.http.clone()
    }
}

impl tower::Service<HttpRequestFactory> for Transport {
    type Response = Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let body = inner
                .persist(&factory)
                .await
                .map_err(|failure| OpenAIError::Boxed(Box::new(failure)))?;
            let response = http::Response::builder()
                .header(CONTENT_TYPE, "application/json")
                .body(body);
            let response = response.map_err(|error| OpenAIError::InvalidArgument(error.to_string()))?;
            Ok(Response::from(response))
        })
    }
}

/// What an attempt came to when it failed, and how long the server asks to wait.
type Attempt = (Failure, Option<Duration>);

impl Inner {
    /// Tries until there is an answer, the failure is one that stays, or enough was tried.
    async fn persist(&self, factory: &HttpRequestFactory) -> Result<String, Failure> {
        let call = CALL.try_with(Clone::clone).unwrap_or_else(|_| OneCall {
            tokens: 1,
            flying: Arc::default(),
        });
        let (first, longest) = WAITS;
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_max_times(self.retries as usize)
            .with_jitter()
            .build();
        let mut tried: u32 = 1;
        loop {
            let (failure, asked) = match self.attempt(factory, &call).await {
                Ok(body) => return Ok(body),
                Err(attempt) => attempt,
            };
            if self.stopping.load(Ordering::Relaxed) || !failure.sort.passes() {
                return Err(failure);
            }
            let times = if tried == 1 {
                "once".to_owned()
            } else {
                format!("{tried} times")
            };
            let absent = failure.sort == Sort::Connection && self.counts.answered.load(Ordering::Relaxed) == 0;
            let next = waits.next().filter(|_| !absent || tried <= KNOCKS);
            let Some(wait) = next else {
                return Err(Failure::new(
                    failure.sort,
                    format!("{} (tried {times})", failure.message),
                ));
            };
            if let Some(asked) = asked {
                if asked > PATIENCE {
                    let message = format!("{}; it asks to wait {} s", failure.message, asked.as_secs());
                    return Err(Failure::new(failure.sort, message));
                }
                self.gate.pause(asked);
            }
            tokio::time::sleep(wait.max(asked.unwrap_or_default())).await;
            self.counts.retries.fetch_add(1, Ordering::Relaxed);
            tried += 1;
        }
    }

    async fn attempt(&self, factory: &HttpRequestFactory, call: &OneCall) -> Result<String, Attempt> {
        let _place = self.gate.enter(call.tokens).await;
        if self.stopping.load(Ordering::Relaxed) {
            return Err((Failure::new(Sort::Interrupted, "interrupted"), None));
        }
        let request = factory.build().await.map_err(|error| {
            // Never a network's doing: the request itself can not be written.
            (
                Failure::new(Sort::Request, format!("the request can not be made: {}", shown(&error))),
                None,
            )
        })?;
        let request = self.with_headers(request);
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let _flight = Flight::begin(&call.flying);
        let answered = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        let answered = answered.unwrap_or_else(|_| {
            let message = format!("no whole answer within {} s", self.timeout.as_secs_f64());
            Err((Failure::new(Sort::Timeout, message), None))
        });
        answered.map_err(|(failure, wait)| (self.without_key(failure), wait))
    }

    /// What a failure says is from headers, too, and control characters were taken out of it.
    fn without_key(&self, failure: Failure) -> Failure {
        match &self.key {
            Some(key) => Failure::new(failure.sort, key.scrub(failure.message)),
            None => failure,
        }
    }

    fn with_headers(&self, mut request: Request) -> Request {
        let headers = request.headers_mut();
        headers.remove(AUTHORIZATION);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = self.key.as_ref().and_then(Secret::header) {
            headers.insert(AUTHORIZATION, key);
        }
        request
    }

    async fn exchange(&self, request: Request) -> Result<String, Attempt> {
        let mut response = self
            .http
            .execute(request)
            .await
            .map_err(|error| (of_wire(error), None))?;
        self.counts.answered.fetch_add(1, Ordering::Relaxed);
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let wait = wait_of(&headers);
        if (300..400).contains(&status) {
            return Err((redirected(&headers), None));
        }
        let body = read(&mut response).await.map_err(|failure| (failure, wait))?;
        let body = match String::from_utf8(body) {
            Ok(body) => body,
            // An answer with other characters in it than the model wrote is none.
            Err(_) if (200..300).contains(&status) => {
                return Err((Failure::new(Sort::Malformed, "the answer is not UTF-8"), wait));
            }
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        let body = match &self.key {
            Some(key) => key.scrub_body(body),
            None => body,
        };
        if Failure::is_filter(status, &body) {
            return Ok(FILTERED.to_owned());
        }
        if !(200..300).contains(&status) {
            return Err((Failure::of_status(status, &body), wait));
        }
        sound(&body, &headers).map_err(|failure| (failure, wait))?;
        Ok(body)
    }
}

/// Whether a body is an answer of the protocol.
fn sound(body: &str, headers: &HeaderMap) -> Result<(), Failure> {
    let value: Value = serde_json::from_str(body).map_err(|error| {
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or("of no type");
        let kind: String = kind.split(';').next().unwrap_or(kind).chars().take(KIND).collect();
        let message = format!("the answer is no JSON ({kind}, {} bytes): {error}", body.len());
        Failure::new(Sort::Malformed, message)
    })?;
    // Some servers pass another one's error on with status 200, as the body or in the choice: what was written until
    // then is no answer.
    let whole = value.get("error").filter(|_| value.get("choices").is_none());
    let error = whole.or_else(|| value.pointer("/choices/0/error"));
    if let Some(error) = error.filter(|error| !error.is_null()) {
        let code = error
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let code = code.filter(|code| *code >= 400).unwrap_or(500);
        return Err(Failure::of_status(code, &json!({ "error": error }).to_string()));
    }
    Answer::parse(value)
        .map(drop)
        .map_err(|problem| Failure::new(Sort::Malformed, problem))
}

/// Reads a body up to its bound.
async fn read(response: &mut Response) -> Result<Vec<u8>, Failure> {
    let large = || Failure::new(Sort::Request, format!("the answer is longer than {} MB", LARGEST >> 20));
    if response.content_length().is_some_and(|length| length > LARGEST as u64) {
        return Err(large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(of_wire)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn redirected(headers: &HeaderMap) -> Failure {
    let place = headers.get(LOCATION).and_then(|place| place.to_str().ok());
    let place = place.and_then(|place| url::Url::parse(place).ok());
    // The rest of the address may hold what is not for everybody.
    let place = place.map_or_else(
        || "elsewhere".to_owned(),
        |place| format!("to {}", place.origin().ascii_serialization()),
    );
    Failure::new(Sort::Redirect, format!("the server sends {place}"))
}

/// How long the server asks to wait.
fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = headers
        .get("retry-after-ms")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let seconds = || retry_after::parse(headers.get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now());
    milliseconds.map(Duration::from_millis).or_else(seconds)
}

fn of_wire(error: reqwest::Error) -> Failure {
    let (sort, what) = if error.is_timeout() {
        (Sort::Timeout, "no connection in time")
    } else if error.is_connect() {
        (Sort::Connection, "no connection")
    } else if error.is_builder() {
        (Sort::Request, "the request can not be made")
    } else {
        (Sort::Connection, "the connection was cut")
    };
    Failure::new(sort, format!("{what}: {}", cause(error)))
}

/// The innermost reason, without the address.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    crate::failure::shortened(&inner.to_string())
}

fn shown(error: &OpenAIError) -> String {
    match error {
        OpenAIError::Reqwest(_) => "its address or a header is not sound".to_owned(),
        other => crate::failure::shortened(&other.to_string()),
    }
}

/// Counts a request on its way.
struct Flight<'a>(&'a AtomicU32);

impl<'a> Flight<'a> {
    fn begin(flying: &'a AtomicU32) -> Self {
        flying.fetch_add(1, Ordering::SeqCst);
        Self(flying)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
