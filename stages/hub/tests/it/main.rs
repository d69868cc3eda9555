//! The hub against a server of the tests' own: what is fetched, what is asked, what happens when something is wrong.

#![allow(clippy::unwrap_used, missing_docs)]

mod fetch;
mod refusals;
mod server;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fracture_hub::{Folder, Found, Hub, Reference, Settings, Step, Watch};
use fracture_stage::{Error, Part};
use server::{Server, folder};

/// A user with a cache.
pub struct User {
    pub home: tempfile::TempDir,
    pub steps: Mutex<Vec<Step>>,
    /// Between tries, when the hub does not say how long to wait.
    pub pace: Duration,
    environment: Vec<(String, String)>,
}

impl User {
    pub fn new(server: &Server) -> Self {
        let home = tempfile::tempdir().unwrap();
        let environment = vec![
            ("HF_HOME".to_owned(), home.path().display().to_string()),
            ("HF_ENDPOINT".to_owned(), server.endpoint.clone()),
        ];
        Self {
            home,
            steps: Mutex::default(),
            pace: Duration::from_millis(2),
            environment,
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn hub(&self) -> Hub {
        let read = |name: &str| {
            let found = self.environment.iter().rev().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        let mut settings = Settings::from_env(&read, false).unwrap();
        settings.pace = self.pace;
        Hub::new(settings, |_| Ok(Vec::new()))
    }

    pub fn fetch(&self, source: &str, part: Part, pin: Option<&str>) -> Result<Folder, Error> {
        self.fetch_file(source, part, None, pin)
    }

    pub fn fetch_file(&self, source: &str, part: Part, file: Option<&str>, pin: Option<&str>) -> Result<Folder, Error> {
        let cancelled = AtomicBool::new(false);
        let tell = |step| self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        let watch = Watch {
            cancelled: &cancelled,
            tell: &tell,
        };
        self.hub()
            .fetch(&Reference::parse(source).unwrap(), part, file, pin, &watch)
    }

    pub fn find(&self, source: &str, part: Part, pin: Option<&str>) -> Found {
        let reference = Reference::parse(source).unwrap();
        self.hub().find(&reference, part, None, pin).unwrap()
    }

    pub fn notes(&self) -> String {
        let steps = self.steps.lock().unwrap();
        let notes = steps.iter().filter_map(|step| match step {
            Step::Note(note) => Some(note.as_str()),
            Step::File { .. } => None,
        });
        notes.collect::<Vec<_>>().join("\n")
    }

    /// The model's folder in the cache.
    pub fn repository(&self) -> std::path::PathBuf {
        self.home.path().join("hub/models--org--pico")
    }
}

pub const PICO: &str = "hf://org/pico";

/// A server with a small model.
pub fn pico() -> Server {
    let server = Server::start();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut files = folder(&examples.join("models/pico-honest"));
    files.insert("pytorch_model.bin".to_owned(), vec![0; 200_000]);
    files.insert("README.md".to_owned(), b"# pico".to_vec());
    server.push("org/pico", "main", 1, files);
    server
}

/// Asserts that everything that a fetch brought is what the server has.
#[track_caller]
pub fn assert_pico(at: &Folder) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/pico-honest");
    let wanted = folder(&examples);
    for (name, bytes) in &wanted {
        assert!(std::fs::read(at.path.join(name)).unwrap() == *bytes, "{name} differs");
    }
    assert_eq!(std::fs::read_dir(&at.path).unwrap().count(), wanted.len());
}
