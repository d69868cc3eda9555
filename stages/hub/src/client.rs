//! Requests to the hub, one hop at a time. The crate `hf-hub` brings connections and TLS; redirects are followed here,
//! because its own way to ask for a file's size takes the token along to wherever it is sent.

use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use fracture_stage::{Error, ErrorKind, retry_after};
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo};
use serde_json::Value;
use url::Url;

use crate::listing::Listing;
use crate::reference::Reference;
use crate::settings::{Settings, is_private};

/// The most redirects of a request.
const HOPS: usize = 8;
/// The longest answer that is read as JSON, bytes.
const JSON_LIMIT: u64 = 32 << 20;
/// The longest word for a refusal that is told, characters.
const WORD_LIMIT: usize = 80;
/// How often is tried what may work later.
pub(crate) const TRIES: u32 = 5;
/// The longest wait that a hub may ask for.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(30);

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No answer: no connection, or one that broke.
    Unheard(String),
    /// An answer that is none of success.
    Status {
        /// The HTTP status.
        status: u16,
        /// The hub's own word for it.
        code: Option<String>,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// An answer that makes no sense or leads where nothing is fetched from.
    Nonsense(String),
    /// The user interrupted.
    Interrupted,
}

impl Refusal {
    /// Whether it may work later.
    pub fn passes(&self) -> bool {
        match self {
            Self::Unheard(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            Self::Nonsense(_) | Self::Interrupted => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unheard(cause) => write!(f, "there is no answer: {cause}"),
            Self::Status {
                status,
                code: Some(code),
                ..
            } => write!(f, "the hub answers {status} ({code})"),
            Self::Status { status, .. } => write!(f, "the hub answers {status}"),
            Self::Nonsense(cause) => f.write_str(cause),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Headers by lower-case name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header, without quotes around it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim().trim_start_matches("W/").trim_matches('"'))
    }
}

/// An answer of success.
pub(crate) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers of whoever gave the body.
    pub headers: Headers,
    /// The last headers of the hub itself, before it sent us elsewhere: a renamed repository sends to itself first.
    pub hub: Headers,
    /// The body.
    pub body: Box<dyn Read + Send>,
}

/// Who asks.
pub(crate) struct Client {
    api: Api,
    settings: Settings,
}

impl Client {
    /// # Errors
    /// When no connection can be made at all.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let builder = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.as_str().trim_end_matches('/').to_owned())
            // The token is added where it may go, see `once`.
            .with_token(None)
            .with_progress(false)
            .with_user_agent("fracture", env!("CARGO_PKG_VERSION"));
        let api = builder
            .build()
            .map_err(|error| Error::new(ErrorKind::Environment, "can not connect to a hub").cause(error))?;
        Ok(Self {
            api,
            settings: settings.clone(),
        })
    }

    /// The address of a path of the hub's; every part is one segment.
    pub fn address(&self, parts: &[&str]) -> Url {
        let mut url = self.settings.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Asks once, following redirects. A status that is none of success is a refusal.
    pub fn once(&self, address: &Url, range: Option<&str>) -> Result<Answer, Refusal> {
        let mut url = address.clone();
        let mut hub: Option<Headers> = None;
        for _ in 0..HOPS {
            if !is_private(&url) && url.scheme() != self.settings.endpoint.scheme() {
                return Err(Refusal::Nonsense(
                    self.scrub(&format!("it sends us to {}, which is not https", plain(&url))),
                ));
            }
            let (status, headers, body) = self.hop(&url, range)?;
            if self.settings.is_hub(&url) {
                hub = Some(headers.clone());
            }
            if !(300..400).contains(&status) || status == 304 {
                let wait = headers
                    .get("retry-after")
                    .and_then(|value| retry_after::parse(value, SystemTime::now()));
                if !(200..300).contains(&status) {
                    return Err(Refusal::Status {
                        status,
                        code: headers.get("x-error-code").map(|code| self.word(code)),
                        wait,
                    });
                }
                let hub = hub.unwrap_or_else(|| headers.clone());
                return Ok(Answer {
                    status,
                    headers,
                    hub,
                    body,
                });
            }
            let location = headers.get("location").map(|location| url.join(location));
            let Some(Ok(next)) = location else {
                return Err(Refusal::Nonsense("it sends us nowhere".to_owned()));
            };
            url = next;
        }
        Err(Refusal::Nonsense(format!("it sends us on more than {HOPS} times")))
    }

    fn hop(&self, url: &Url, range: Option<&str>) -> Result<(u16, Headers, Box<dyn Read + Send>), Refusal> {
        let unheard = |error: &dyn fmt::Display| Refusal::Unheard(self.scrub(&error.to_string()));
        let repo = Repo::model(String::new());
        let mut request = self.api.repo(repo).info_request().uri(url.as_str());
        request = request.header("Accept-Encoding", "identity");
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        if let Some(token) = &self.settings.token
            && self.settings.is_trusted(url)
        {
            request = request.header("Authorization", token.bearer());
        }
        let request = request
            .config()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .build();
        let answer = request.call().map_err(|error| unheard(&error))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().iter().filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_ascii_lowercase(), value.to_owned()))
        });
        let headers = Headers(headers.collect());
        Ok((status, headers, Box::new(answer.into_body().into_reader())))
    }

    /// What can be asked again is asked again, with longer and longer pauses, or with those that the hub asks for.
    pub fn patiently<T>(
        &self,
        tries: u32,
        cancelled: &AtomicBool,
        mut ask: impl FnMut() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut tried = 1;
        loop {
            let refusal = match ask() {
                Err(refusal) if refusal.passes() && tried < tries => refusal,
                other => return other,
            };
            self.pause(tried, &refusal, cancelled)?;
            tried += 1;
        }
    }

    /// Waits before the next try.
    pub fn pause(&self, tried: u32, refusal: &Refusal, cancelled: &AtomicBool) -> Result<(), Refusal> {
        let asked = match refusal {
            Refusal::Status { wait, .. } => *wait,
            _ => None,
        };
        let wait = asked
            .unwrap_or(self.settings.pace * 2_u32.pow(tried.min(8) - 1))
            .min(WAIT_LIMIT);
        let until = Instant::now() + wait;
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Refusal::Interrupted);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Asks which commit a revision means now, and which files it has.
    pub fn listing(
        &self,
        reference: &Reference,
        revision: &str,
        tries: u32,
        cancelled: &AtomicBool,
    ) -> Result<Listing, Refusal> {
        let Reference { organisation, name, .. } = reference;
        let mut address = self.address(&["api", "models", organisation, name, "revision", revision]);
        address.set_query(Some("blobs=true"));
        let told = self.patiently(tries, cancelled, || self.json(&address))?;
        Listing::parse(&told)
            .map_err(|problem| Refusal::Nonsense(format!("its list of files can not be read: {problem}")))
    }

    fn json(&self, address: &Url) -> Result<Value, Refusal> {
        let answer = self.once(address, None)?;
        let mut bytes = Vec::new();
        let read = answer.body.take(JSON_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| Refusal::Unheard(self.scrub(&error.to_string())))?;
        if bytes.len() as u64 > JSON_LIMIT {
            return Err(Refusal::Nonsense(format!(
                "its answer is longer than {} MB",
                JSON_LIMIT >> 20
            )));
        }
        serde_json::from_slice(&bytes).map_err(|error| Refusal::Nonsense(format!("its answer is no JSON: {error}")))
    }

    /// Whether the hub knows a model at all, told apart from a revision of it that it does not know.
    fn knows(&self, reference: &Reference, cancelled: &AtomicBool) -> bool {
        let Reference { organisation, name, .. } = reference;
        let address = self.address(&["api", "models", organisation, name]);
        self.patiently(2, cancelled, || self.json(&address)).is_ok()
    }

    /// A refusal as people read it.
    pub fn told(&self, refusal: &Refusal, reference: &Reference, cancelled: &AtomicBool) -> Error {
        let Settings { endpoint, token, .. } = &self.settings;
        let page = self.address(&[&reference.organisation, &reference.name]);
        let told = |kind: ErrorKind, what: String| Error::new(kind, what).cause(format!("{refusal}"));
        let (status, code) = match refusal {
            Refusal::Interrupted => return Error::new(ErrorKind::Interrupted, "interrupted"),
            Refusal::Unheard(_) | Refusal::Nonsense(_) => {
                let what = format!("can not fetch `{reference}` from {}", plain(endpoint));
                return told(ErrorKind::Environment, what)
                    .hint("check the connection and HF_ENDPOINT; without one, --offline uses what was fetched before");
            }
            Refusal::Status { status, code, .. } => (*status, code.as_deref()),
        };
        let gated = code == Some("GatedRepo");
        let kept_back = match self.settings.keeps_token_back() {
            true => "; the token was not sent, because HF_ENDPOINT is plain http",
            false => "",
        };
        match status {
            401 | 403 if gated || (status == 403 && token.is_some()) => told(
                ErrorKind::Input,
                format!("`{reference}` is gated: its owner gives it to those who accept its licence{kept_back}"),
            )
            .hint(format!("accept the licence at {page}, then set HF_TOKEN to a token of that account")),
            401 | 403 if token.is_some() && kept_back.is_empty() => told(
                ErrorKind::Input,
                format!("the hub has no `{reference}` for this token: it does not exist, is private, or the token is not valid"),
            )
            .hint(format!("check the name, and whether the account of the token can open {page}")),
            401 | 403 => told(
                ErrorKind::Input,
                format!("the hub has no public `{reference}`: it does not exist, is private, or gated{kept_back}"),
            )
            .hint(format!(
                "check the name; if it is gated or private, accept the licence at {page} and set HF_TOKEN"
            )),
            404 => {
                let revision = match code {
                    Some("RevisionNotFound") => true,
                    Some("RepoNotFound") => false,
                    _ => self.knows(reference, cancelled),
                };
                let Reference { revision: name, .. } = reference;
                match revision {
                    true => told(
                        ErrorKind::Input,
                        format!("`{}` has no revision `{name}`", reference.repository()),
                    )
                    .hint(format!("its branches and tags are listed at {page}/tree/main")),
                    false => told(
                        ErrorKind::Input,
                        format!("there is no model `{}` at {}", reference.repository(), plain(endpoint)),
                    )
                    .hint("check organisation and name; a private model needs HF_TOKEN"),
                }
            }
            429 => told(ErrorKind::Environment, format!("the hub refuses more requests for `{reference}` now"))
                .hint("wait a while and run again: what was fetched is kept; with HF_TOKEN more requests are allowed"),
            _ => told(ErrorKind::Environment, format!("can not fetch `{reference}` from {}", plain(endpoint)))
                .hint("run again later: what was fetched is kept"),
        }
    }

    /// A word of the hub's for people: not long, and the token is not in it.
    fn word(&self, text: &str) -> String {
        self.scrub(text).chars().take(WORD_LIMIT).collect()
    }

    fn scrub(&self, text: &str) -> String {
        let text = match &self.settings.token {
            Some(token) => token.scrub(text),
            None => text.to_owned(),
        };
        // What stands behind `?` of an address may be a signature.
        match text.split_once('?') {
            Some((before, _)) => format!("{before}?…"),
            None => text,
        }
    }
}

/// An address without what may be a secret in it.
pub(crate) fn plain(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.as_str().trim_end_matches('/').to_owned()
}
