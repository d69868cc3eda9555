//! The hub: finds a model's files in the cache without asking anybody, and fetches those that are not there.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use fracture_stage::{Error, ErrorKind, Part};

use crate::cache::{Look, Repository, unwritten};
use crate::client::{Client, TRIES};
use crate::download::{Download, Step, Watch};
use crate::listing::{Entry, Listing};
use crate::reference::Reference;
use crate::select::{Chooser, External, Selection, some};
use crate::settings::{Offline, Settings};

/// A file that is fetched may name others, and these no further ones.
const ROUNDS: usize = 4;

/// The files of a model that are all in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder of the commit.
    pub path: PathBuf,
    /// The commit.
    pub commit: String,
    /// Whether the hub was ever asked which files the commit has. If not, one that a stage can do without may be missing.
    pub listed: bool,
}

/// What is not in the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// The commit, when it is known without asking.
    pub commit: Option<String>,
    /// The files that are not there, as far as they are known.
    pub files: Vec<String>,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
    /// Files that are there and have another size than they should.
    pub damaged: Vec<String>,
}

/// What the cache has of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Everything that is needed.
    Here(Folder),
    /// Not everything.
    Missing(Missing),
}

/// A model hub and its cache on this machine.
pub struct Hub {
    settings: Settings,
    external: External,
    client: OnceLock<Client>,
}

impl Hub {
    /// A hub. `external` names the files that an ONNX graph takes its weights from. Nothing is asked or opened yet.
    pub fn new(settings: Settings, external: External) -> Self {
        Self {
            settings,
            external,
            client: OnceLock::new(),
        }
    }

    /// How it is used.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn client(&self) -> Result<&Client, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.settings)?;
        Ok(self.client.get_or_init(|| client))
    }

    fn repository(&self, reference: &Reference) -> Repository {
        Repository::new(&self.settings.cache, reference)
    }

    /// Where the files of a commit lie, there or not.
    pub fn snapshot(&self, reference: &Reference, commit: &str) -> PathBuf {
        self.repository(reference).snapshot(commit)
    }

    /// The commit that a revision means as far as is known here: one that is whole is itself, else what the cache noted.
    pub fn known_commit(&self, reference: &Reference) -> Option<String> {
        match reference.is_commit() {
            true => Some(reference.revision.clone()),
            false => self.repository(reference).commit(),
        }
    }

    /// What the cache has of a model at a commit, or at the commit that is known. Asks nobody.
    ///
    /// # Errors
    /// When the model lacks what is needed, or a link of the cache leads outside.
    pub fn find(
        &self,
        reference: &Reference,
        part: Part,
        file: Option<&str>,
        commit: Option<&str>,
    ) -> Result<Found, Error> {
        let commit = commit.map(str::to_owned).or_else(|| self.known_commit(reference));
        let Some(commit) = commit else {
            return Ok(Found::Missing(Missing::default()));
        };
        let repository = self.repository(reference);
        let unlisted = Missing {
            commit: Some(commit.clone()),
            ..Missing::default()
        };
        let Some(listing) = repository.listing(&commit) else {
            return Ok(Found::Missing(unlisted));
        };
        let selection = match self.choose(reference, &listing, part, file) {
            // The snapshot may be a part of what there is.
            Err(_) if !listing.complete => return Ok(Found::Missing(unlisted)),
            other => other?,
        };
        let mut missing = unlisted;
        for entry in entries(&selection, &listing) {
            match repository.look(&commit, entry)? {
                Look::Here(_) => continue,
                Look::Absent => {}
                Look::Damaged(size) => {
                    missing
                        .damaged
                        .push(format!("{} ({size} of {} bytes)", entry.name, entry.size.unwrap_or(0)))
                }
            }
            missing.files.push(entry.name.clone());
            missing.bytes += entry.size.unwrap_or(0);
        }
        if !missing.files.is_empty() || selection.open {
            return Ok(Found::Missing(missing));
        }
        Ok(Found::Here(Folder {
            path: repository.snapshot(&commit),
            commit,
            listed: listing.complete,
        }))
    }

    fn choose(
        &self,
        reference: &Reference,
        listing: &Listing,
        part: Part,
        file: Option<&str>,
    ) -> Result<Selection, Error> {
        let repository = self.repository(reference);
        let here = |name: &str| match repository.look(&listing.commit, listing.file(name)?) {
            Ok(Look::Here(path)) => Some(path),
            _ => None,
        };
        let chooser = Chooser {
            reference,
            listing,
            here: &here,
            external: self.external,
        };
        chooser.choose(part, file)
    }

    /// Asks the hub which commit the revision means now.
    ///
    /// # Errors
    /// Offline, or when the hub refuses.
    pub fn newest(&self, reference: &Reference, watch: &Watch<'_>) -> Result<String, Error> {
        if reference.is_commit() {
            return Ok(reference.revision.clone());
        }
        if let Some(offline) = self.settings.offline {
            let what = format!("can not ask for the newest commit of `{reference}`");
            return Err(Error::new(ErrorKind::Environment, what)
                .cause(format!("{} forbids to ask the hub", offline.name()))
                .hint("run without --update, or with a connection"));
        }
        let listing = self.ask(reference, &reference.revision, TRIES, watch)?;
        Ok(listing.commit)
    }

    fn ask(&self, reference: &Reference, revision: &str, tries: u32, watch: &Watch<'_>) -> Result<Listing, Error> {
        let client = self.client()?;
        let listing = client
            .listing(reference, revision, tries, watch.cancelled)
            .map_err(|refusal| client.told(&refusal, reference, watch.cancelled))?;
        self.repository(reference).keep_listing(&listing);
        Ok(listing)
    }

    /// Fetches what is missing of a model, at a commit or at the one that its revision means now. Only the files that are
    /// needed, each visible only when it is whole.
    ///
    /// # Errors
    /// Offline, when the hub refuses, when the model lacks what is needed, or the cache can not be written.
    pub fn fetch(
        &self,
        reference: &Reference,
        part: Part,
        file: Option<&str>,
        commit: Option<&str>,
        watch: &Watch<'_>,
    ) -> Result<Folder, Error> {
        let missing = match self.find(reference, part, file, commit)? {
            Found::Here(folder) if folder.listed || self.settings.offline.is_some() => return Ok(folder),
            Found::Here(folder) => return self.complete(reference, part, file, folder, watch),
            Found::Missing(missing) => missing,
        };
        if let Some(offline) = self.settings.offline {
            return Err(self.absent(reference, &missing, offline));
        }
        let repository = self.repository(reference);
        // Without a pin the revision is looked up: something has to be fetched in any case.
        let listing = match commit {
            Some(commit) => match repository.listing(commit).filter(|listing| listing.complete) {
                Some(listing) => listing,
                None => self.of_commit(reference, commit, TRIES, watch)?,
            },
            None => self.ask(reference, &reference.revision, TRIES, watch)?,
        };
        let folder = self.bring(reference, part, file, listing, watch)?;
        if commit.is_none() {
            repository
                .note_commit(&folder.commit)
                .map_err(|error| unwritten(&folder.path, error))?;
        }
        Ok(folder)
    }

    /// The files of a commit, which can only be that one.
    fn of_commit(&self, reference: &Reference, commit: &str, tries: u32, watch: &Watch<'_>) -> Result<Listing, Error> {
        let listing = self.ask(reference, commit, tries, watch)?;
        if listing.commit == commit {
            return Ok(listing);
        }
        let what = format!("the hub takes the commit {commit} of `{reference}` for another one");
        Err(Error::new(ErrorKind::Environment, what)
            .cause(format!("it answers with {}", listing.commit))
            .hint("`fracture run --update` looks the revision up again"))
    }

    /// What lies in the cache was put there by others, who may have left out what a stage would look for: the hub is asked
    /// once. Without an answer, what is there counts.
    fn complete(
        &self,
        reference: &Reference,
        part: Part,
        file: Option<&str>,
        folder: Folder,
        watch: &Watch<'_>,
    ) -> Result<Folder, Error> {
        match self.of_commit(reference, &folder.commit, 1, watch) {
            Ok(listing) => self.bring(reference, part, file, listing, watch),
            Err(error) if error.kind == ErrorKind::Environment => {
                let why = error.causes.first().cloned().unwrap_or(error.message);
                let what = format!(
                    "`{reference}` is taken as it lies in the cache, whether or not it has further files: {why}"
                );
                (watch.tell)(Step::Note(what));
                Ok(folder)
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches the files that are not there, until none names a further one.
    fn bring(
        &self,
        reference: &Reference,
        part: Part,
        file: Option<&str>,
        mut listing: Listing,
        watch: &Watch<'_>,
    ) -> Result<Folder, Error> {
        let repository = self.repository(reference);
        let download = Download {
            client: self.client()?,
            repository: &repository,
            reference,
            commit: &listing.commit.clone(),
            watch,
        };
        for _ in 0..ROUNDS {
            let selection = self.choose(reference, &listing, part, file)?;
            let chosen: Vec<Entry> = entries(&selection, &listing).cloned().collect();
            let mut learned = false;
            for entry in chosen {
                match repository.look(&listing.commit, &entry)? {
                    Look::Here(_) => continue,
                    Look::Absent => {}
                    Look::Damaged(size) => (watch.tell)(Step::Note(format!(
                        "`{}` in the cache is damaged: it has {size} bytes; fetching it again",
                        reference.file(&entry.name)
                    ))),
                }
                let fetched = download.run(&entry)?;
                if fetched != entry {
                    listing.learn(fetched);
                    learned = true;
                }
            }
            if learned {
                repository.keep_listing(&listing);
            }
            if !selection.open {
                return Ok(Folder {
                    path: repository.snapshot(&listing.commit),
                    commit: listing.commit,
                    listed: true,
                });
            }
        }
        Err(Error::internal(format!(
            "the files of `{reference}` name further files without end"
        )))
    }

    /// The error for what can not be fetched.
    pub fn absent(&self, reference: &Reference, missing: &Missing, offline: Offline) -> Error {
        let what = format!(
            "`{reference}` is not in the cache `{}`, and {} forbids to fetch it",
            self.settings.cache.display(),
            offline.name()
        );
        let error = Error::input(what);
        let error = match missing.files.as_slice() {
            [] => error,
            files => error.cause(format!("what is missing: {}", some(files))),
        };
        let error = missing
            .damaged
            .iter()
            .fold(error, |error, file| error.cause(format!("damaged: {file}")));
        error.hint(format!(
            "run once without {}, or fetch it where there is a connection and copy the cache",
            offline.name()
        ))
    }
}

fn entries<'a>(selection: &'a Selection, listing: &'a Listing) -> impl Iterator<Item = &'a Entry> {
    selection.names.iter().filter_map(|name| listing.file(name))
}

impl Missing {
    /// What would be fetched, for people.
    pub fn text(&self) -> String {
        let size = |bytes: u64| match bytes {
            0..1_000 => format!("{bytes} bytes"),
            1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
            _ => format!("{:.1} GB", bytes as f64 / 1e9),
        };
        let mut text = match (self.files.as_slice(), self.bytes) {
            ([], _) => "to be fetched".to_owned(),
            (files, 0) => format!("to be fetched: {}", some(files)),
            (files, bytes) => format!("to be fetched: {} ({})", some(files), size(bytes)),
        };
        if !self.damaged.is_empty() {
            text.push_str(&format!("; damaged: {}", some(&self.damaged)));
        }
        text
    }
}

/// A watch of nobody, for tests and for programs that do not tell.
pub fn unwatched(cancelled: &AtomicBool) -> Watch<'_> {
    Watch {
        cancelled,
        tell: &|_| {},
    }
}
