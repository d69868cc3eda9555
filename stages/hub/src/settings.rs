//! Where the hub is, where its files are kept and who asks: from the environment, by the names that Python's
//! `huggingface_hub` reads.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use fracture_stage::{Error, ErrorKind};
use url::{Host, Url};

/// The hub that is asked when `HF_ENDPOINT` names no other.
const ENDPOINT: &str = "https://huggingface.co";

/// A secret that shows itself nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token without white space around it; `None` when nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        // What can not stand in a header is no token.
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// The header that carries it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// A text in which it does not occur.
    pub(crate) fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why nothing may be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offline {
    /// `--offline`.
    Asked,
    /// `HF_HUB_OFFLINE`.
    Environment,
}

impl Offline {
    /// The words for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "--offline",
            Self::Environment => "HF_HUB_OFFLINE",
        }
    }
}

/// How the hub is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the cache: repositories with `blobs`, `snapshots` and `refs`.
    pub cache: PathBuf,
    /// The hub's address.
    pub endpoint: Url,
    /// The user's token, if there is one.
    pub token: Option<Token>,
    /// The variable or file that the token is from.
    pub token_from: Option<String>,
    /// Set when nothing may be fetched.
    pub offline: Option<Offline>,
    /// How long is waited before what failed is tried again, doubled each time.
    pub pace: Duration,
}

impl Settings {
    /// Reads the environment: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// When `HF_ENDPOINT` is no address, or no folder for the cache is known.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>, offline: bool) -> Result<Self, Error> {
        let named = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        let home = match named("HF_HOME") {
            Some(home) => expand(&home),
            None => named("XDG_CACHE_HOME")
                .map(|folder| expand(&folder))
                .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
                .map(|folder| folder.join("huggingface"))
                .ok_or_else(|| {
                    Error::new(ErrorKind::Environment, "there is no folder for files from the hub")
                        .hint("set HF_HOME to a folder that may be written")
                })?,
        };
        let cache = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.map_or_else(|| home.join("hub"), |folder| expand(&folder));
        let file = named("HF_TOKEN_PATH").map_or_else(|| home.join("token"), |path| expand(&path));
        let (token, token_from) = token(&named, &file);
        Ok(Self {
            cache: std::path::absolute(&cache).unwrap_or(cache),
            endpoint: endpoint(named("HF_ENDPOINT").as_deref().unwrap_or(ENDPOINT))?,
            token,
            token_from,
            offline: match offline {
                true => Some(Offline::Asked),
                false => ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                    .iter()
                    .any(|name| named(name).is_some_and(|value| is_true(&value)))
                    .then_some(Offline::Environment),
            },
            pace: Duration::from_millis(400),
        })
    }

    /// Whether an address is the hub's own.
    pub(crate) fn is_hub(&self, address: &Url) -> bool {
        address.scheme() == self.endpoint.scheme()
            && address.host() == self.endpoint.host()
            && address.port_or_known_default() == self.endpoint.port_or_known_default()
    }

    /// Whether the token may be sent to an address: to the hub's own, and over plain http only on this machine.
    pub(crate) fn is_trusted(&self, address: &Url) -> bool {
        self.is_hub(address) && is_private(address)
    }

    /// Whether the token is kept back because the hub's address is plain http.
    pub fn keeps_token_back(&self) -> bool {
        self.token.is_some() && !is_private(&self.endpoint)
    }
}

/// Whether nobody between here and there can read along: https, or this machine.
pub(crate) fn is_private(address: &Url) -> bool {
    let local = match address.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    address.scheme() == "https" || (address.scheme() == "http" && local)
}

fn token(named: &dyn Fn(&str) -> Option<String>, file: &std::path::Path) -> (Option<Token>, Option<String>) {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = named(name).as_deref().and_then(Token::new) {
            return (Some(token), Some(name.to_owned()));
        }
    }
    let token = std::fs::read_to_string(file).ok().as_deref().and_then(Token::new);
    let from = token.as_ref().map(|_| file.display().to_string());
    (token, from)
}

fn endpoint(text: &str) -> Result<Url, Error> {
    let wrong = |problem: String| {
        // What it says is not repeated: it may hold a password.
        Error::new(ErrorKind::Environment, "HF_ENDPOINT is no address of a hub")
            .cause(problem)
            .hint("give it as https://HOST, or unset it")
    };
    let url = Url::parse(text.trim().trim_end_matches('/')).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err(wrong("it is neither https nor http".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "it holds a user's name or password; a token comes in by HF_TOKEN".to_owned(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("there is something behind `?` or `#`".to_owned()));
    }
    Ok(url)
}

fn is_true(text: &str) -> bool {
    matches!(text.trim().to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn expand(path: &str) -> PathBuf {
    match path.strip_prefix("~/").zip(std::env::home_dir()) {
        Some((rest, home)) => home.join(rest),
        None => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(values: &[(&str, &str)], offline: bool) -> Result<Settings, Error> {
        let find = |name: &str| {
            let found = values.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::from_env(&find, offline)
    }

    #[test]
    fn the_environment_is_read_as_python_reads_it() {
        let plain = read(&[("XDG_CACHE_HOME", "/x")], false).unwrap();
        assert_eq!(plain.cache, PathBuf::from("/x/huggingface/hub"));
        assert_eq!(plain.endpoint.as_str(), "https://huggingface.co/");
        assert_eq!(plain.offline, None);
        let home = read(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], false).unwrap();
        assert_eq!(home.cache, PathBuf::from("/h/hub"));
        let cache = read(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], false).unwrap();
        assert_eq!(cache.cache, PathBuf::from("/c"));
        for (value, offline) in [("1", true), ("true", true), ("ON", true), ("0", false), ("", false)] {
            let read = read(&[("HF_HUB_OFFLINE", value), ("HF_HOME", "/h")], false).unwrap();
            assert_eq!(read.offline.is_some(), offline, "{value}");
        }
        let asked = read(&[("HF_HUB_OFFLINE", "1"), ("HF_HOME", "/h")], true).unwrap();
        assert_eq!(asked.offline, Some(Offline::Asked));
    }

    #[test]
    fn the_token_is_found_and_shows_itself_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(read(&[("HF_HOME", home)], false).unwrap().token, None);
        std::fs::write(folder.path().join("token"), "hf_fromfile\n").unwrap();
        let file = read(&[("HF_HOME", home)], false).unwrap();
        assert_eq!(file.token.as_ref().unwrap().bearer(), "Bearer hf_fromfile");
        assert!(file.token_from.as_ref().unwrap().ends_with("token"));
        let variable = read(&[("HF_HOME", home), ("HF_TOKEN", " hf_secret ")], false).unwrap();
        assert_eq!(variable.token.as_ref().unwrap().bearer(), "Bearer hf_secret");
        assert!(!format!("{variable:?}").contains("hf_secret"));
        assert_eq!(variable.token.unwrap().scrub("a hf_secret b"), "a … b");
        assert_eq!(Token::new("two\nlines"), None);
    }

    #[test]
    fn the_token_goes_to_the_hub_alone() {
        let at = |endpoint: &str| {
            read(
                &[("HF_HOME", "/h"), ("HF_TOKEN", "t"), ("HF_ENDPOINT", endpoint)],
                false,
            )
            .unwrap()
        };
        let trusted = |endpoint: &str, address: &str| at(endpoint).is_trusted(&Url::parse(address).unwrap());
        assert!(trusted("https://hub.org", "https://hub.org/a"));
        assert!(trusted("https://hub.org/", "https://hub.org:443/a"));
        assert!(!trusted("https://hub.org", "https://cdn.hub.org/a"));
        assert!(!trusted("https://hub.org", "http://hub.org/a"));
        assert!(!trusted("https://hub.org", "https://hub.org:8443/a"));
        assert!(!trusted("http://hub.org", "http://hub.org/a"));
        assert!(trusted("http://127.0.0.1:80", "http://127.0.0.1/a"));
        assert!(!trusted("http://127.0.0.1:80", "http://127.0.0.1:81/a"));
        assert!(at("http://hub.org").keeps_token_back() && !at("http://localhost:1").keeps_token_back());
    }

    #[test]
    fn an_endpoint_that_is_none_is_refused_without_repeating_it() {
        for text in [
            "hub.org",
            "ftp://hub.org",
            "https://me:secret@hub.org",
            "https://hub.org?token=secret",
        ] {
            let error = read(&[("HF_HOME", "/h"), ("HF_ENDPOINT", text)], false).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
