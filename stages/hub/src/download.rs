//! One file from the hub into the cache: resumed where it was cut, checked by size and SHA-256, visible only when whole.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fracture_stage::Error;
use sha2::{Digest as _, Sha256};

use crate::cache::{Repository, unwritten};
use crate::client::{Answer, Client, Refusal, TRIES};
use crate::listing::{Entry, is_blob_name, sha256_of};
use crate::reference::Reference;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 18;
/// How often is told how far a file is.
const EVERY: Duration = Duration::from_millis(200);
/// How long is waited for another process that fetches the same content, before it is told.
const WAIT: Duration = Duration::from_millis(100);
/// The longest configuration or tokenizer that is fetched, bytes.
const SMALL_LIMIT: u64 = 256 << 20;

/// What happens while files are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A file is so far.
    File {
        /// The model, as the pipeline writes it.
        source: String,
        /// The file.
        file: String,
        /// Bytes that are here.
        done: u64,
        /// Its size.
        total: u64,
    },
    /// Something the user should know.
    Note(String),
}

/// Who watches a fetch.
pub struct Watch<'a> {
    /// Set when the user interrupts.
    pub cancelled: &'a AtomicBool,
    /// Is told what happens.
    pub tell: &'a dyn Fn(Step),
}

/// One file that is fetched.
pub(crate) struct Download<'a> {
    pub client: &'a Client,
    pub repository: &'a Repository,
    pub reference: &'a Reference,
    pub commit: &'a str,
    pub watch: &'a Watch<'a>,
}

impl Download<'_> {
    /// Fetches a file and makes it visible; gives what was learned of it.
    ///
    /// # Errors
    /// When the hub refuses, the content is not what the hub says, or the cache can not be written.
    pub fn run(&self, entry: &Entry) -> Result<Entry, Error> {
        let entry = self.known(entry)?;
        let etag = entry.etag.clone().unwrap_or_default();
        let blob = self.repository.blob(&etag);
        let told = |error| unwritten(&blob, error);
        let _lock = self.lock(&etag)?;
        let whole = |path: &std::path::Path| {
            fs::metadata(path).is_ok_and(|meta| meta.is_file() && entry.size.is_none_or(|size| size == meta.len()))
        };
        if !whole(&blob) {
            self.fetch(&entry, &etag)?;
        }
        self.repository.link(self.commit, &entry.name, &etag).map_err(told)?;
        let size = fs::metadata(&blob).map_err(told)?.len();
        Ok(Entry {
            size: Some(size),
            ..entry
        })
    }

    /// What the list of files did not say of a file, asked of the file itself.
    fn known(&self, entry: &Entry) -> Result<Entry, Error> {
        if entry.size.is_some() && entry.etag.is_some() {
            self.check_size(entry)?;
            return Ok(entry.clone());
        }
        let answer = self
            .client
            .patiently(TRIES, self.watch.cancelled, || self.ask(entry, Some("bytes=0-0")))
            .map_err(|refusal| self.told(&refusal, entry))?;
        let etag = answer.hub.get("x-linked-etag").or(answer.hub.get("etag"));
        let etag = etag.filter(|etag| is_blob_name(etag)).map_or_else(
            // A name that no file may have: the content goes by commit and path.
            // It is shorter than a SHA-256, for which it must not be taken.
            || hex(&Sha256::digest(format!("{}/{}", self.commit, entry.name)))[..40].to_owned(),
            str::to_owned,
        );
        let total = answer
            .headers
            .get("content-range")
            .and_then(|range| range.rsplit('/').next());
        let length = (answer.status == 200)
            .then(|| answer.headers.get("content-length"))
            .flatten();
        let size = answer.hub.get("x-linked-size").or(total).or(length);
        let entry = Entry {
            name: entry.name.clone(),
            size: entry.size.or_else(|| size.and_then(|size| size.parse().ok())),
            etag: Some(etag),
        };
        self.check_size(&entry)?;
        Ok(entry)
    }

    /// Configurations are read whole; one without end is not fetched.
    fn check_size(&self, entry: &Entry) -> Result<(), Error> {
        let small = [".json", ".jinja"].iter().any(|ending| entry.name.ends_with(ending));
        match entry.size {
            Some(size) if small && size > SMALL_LIMIT => Err(Error::input(format!(
                "`{}` has {size} bytes; no configuration is so long",
                self.reference.file(&entry.name)
            ))),
            _ => Ok(()),
        }
    }

    fn ask(&self, entry: &Entry, range: Option<&str>) -> Result<Answer, Refusal> {
        let Reference { organisation, name, .. } = self.reference;
        let mut parts = vec![organisation.as_str(), name.as_str(), "resolve", self.commit];
        parts.extend(entry.name.split('/'));
        let answer = self.client.once(&self.client.address(&parts), range)?;
        match answer.hub.get("x-repo-commit") {
            Some(commit) if commit != self.commit => Err(Refusal::Nonsense(format!(
                "it answers with the file of another commit, {commit}"
            ))),
            _ => Ok(answer),
        }
    }

    /// Waits until nobody else fetches the content.
    fn lock(&self, etag: &str) -> Result<File, Error> {
        let file = self
            .repository
            .lock(etag)
            .map_err(|error| unwritten(&self.repository.blob(etag), error))?;
        let mut told = false;
        while let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            if !std::mem::replace(&mut told, true) {
                let what = format!(
                    "waiting for another process that fetches a file of `{}`",
                    self.reference
                );
                (self.watch.tell)(Step::Note(what));
            }
            if self.watch.cancelled.load(Ordering::Relaxed) {
                return Err(Error::new(fracture_stage::ErrorKind::Interrupted, "interrupted"));
            }
            std::thread::sleep(WAIT);
        }
        // Where the file system has no locks, the worst is a content that is fetched twice and then found damaged.
        Ok(file)
    }

    /// Brings the content to its place among the blobs.
    fn fetch(&self, entry: &Entry, etag: &str) -> Result<(), Error> {
        let (part, blob) = (self.repository.part(etag), self.repository.blob(etag));
        let mut again = true;
        loop {
            let hash = self.bytes(entry, &part)?;
            let written = fs::metadata(&part).map_err(|error| unwritten(&part, error))?.len();
            let problem = match (entry.size, sha256_of(etag)) {
                (Some(size), _) if size != written => format!("{written} bytes came, the hub speaks of {size}"),
                (_, Some(sha256)) if !sha256.eq_ignore_ascii_case(&hash) => {
                    format!("its SHA-256 is {hash}, the hub speaks of {sha256}")
                }
                _ => {
                    return fs::rename(&part, &blob).map_err(|error| unwritten(&blob, error));
                }
            };
            // What was there from an earlier try may have been wrong already.
            fs::remove_file(&part).map_err(|error| unwritten(&part, error))?;
            if !std::mem::replace(&mut again, false) {
                let what = format!("`{}` arrives damaged", self.reference.file(&entry.name));
                return Err(Error::new(fracture_stage::ErrorKind::Environment, what)
                    .cause(problem)
                    .hint("run again; if it stays so, something between here and the hub changes files"));
            }
            (self.watch.tell)(Step::Note(format!(
                "`{}` arrived damaged ({problem}); fetching it again",
                self.reference.file(&entry.name)
            )));
        }
    }

    /// Appends to what is there of a content until it is whole; gives its SHA-256.
    fn bytes(&self, entry: &Entry, part: &std::path::Path) -> Result<String, Error> {
        let unwritten = |error| unwritten(part, error);
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(part)
            .map_err(unwritten)?;
        let mut hash = Sha256::new();
        let mut done = 0;
        let mut buffer = vec![0; PIECE];
        loop {
            let count = file.read(&mut buffer).map_err(unwritten)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            done += count as u64;
        }
        let mut tried = 1;
        while entry.size != Some(done) {
            let before = done;
            if entry.size.is_some_and(|size| done > size) {
                (done, hash) = (0, Sha256::new());
                file.set_len(0).map_err(unwritten)?;
            }
            let refusal = match self.stream(entry, &mut file, &mut hash, &mut done, &mut buffer)? {
                Ok(()) => break,
                Err(refusal) => refusal,
            };
            // As long as something comes, it goes on.
            tried = if done > before { 1 } else { tried + 1 };
            if tried > TRIES || !refusal.passes() {
                return Err(self.told(&refusal, entry));
            }
            self.client
                .pause(tried, &refusal, self.watch.cancelled)
                .map_err(|refusal| self.told(&refusal, entry))?;
        }
        file.sync_data().map_err(unwritten)?;
        self.tell(entry, done);
        Ok(hex(&hash.finalize()))
    }

    /// Asks for the rest of a content and appends it. The outer error is final, the inner one may pass.
    fn stream(
        &self,
        entry: &Entry,
        file: &mut File,
        hash: &mut Sha256,
        done: &mut u64,
        buffer: &mut [u8],
    ) -> Result<Result<(), Refusal>, Error> {
        let unwritten = |error| unwritten(&self.repository.part(entry.etag.as_deref().unwrap_or_default()), error);
        let range = (*done > 0).then(|| format!("bytes={done}-"));
        let mut answer = match self.ask(entry, range.as_deref()) {
            Ok(answer) => answer,
            // What is there is longer than the content: it is none of it.
            Err(Refusal::Status { status: 416, .. }) if *done > 0 => {
                (*done, *hash) = (0, Sha256::new());
                file.set_len(0).map_err(unwritten)?;
                match self.ask(entry, None) {
                    Ok(answer) => answer,
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        let start = answer.headers.get("content-range").and_then(|range| {
            let range = range.trim_start_matches("bytes").trim_start_matches([' ', '=']);
            range.split('-').next()?.trim().parse::<u64>().ok()
        });
        if *done > 0 && !(answer.status == 206 && start == Some(*done)) {
            // It begins anew, whatever was asked for.
            if answer.status == 206 && start != Some(0) {
                return Ok(Err(Refusal::Nonsense(
                    "it answers with another part of the file".to_owned(),
                )));
            }
            (*done, *hash) = (0, Sha256::new());
            file.set_len(0).map_err(unwritten)?;
        }
        std::io::Seek::seek(file, std::io::SeekFrom::Start(*done)).map_err(unwritten)?;
        let mut told = Instant::now();
        self.tell(entry, *done);
        loop {
            if self.watch.cancelled.load(Ordering::Relaxed) {
                return Ok(Err(Refusal::Interrupted));
            }
            let count = match answer.body.read(buffer) {
                Ok(count) => count,
                Err(error) => return Ok(Err(Refusal::Unheard(error.to_string()))),
            };
            if count == 0 {
                let whole = entry.size.is_none_or(|size| *done == size);
                return Ok(match whole {
                    true => Ok(()),
                    false => Err(Refusal::Unheard("the connection was cut".to_owned())),
                });
            }
            file.write_all(&buffer[..count]).map_err(unwritten)?;
            hash.update(&buffer[..count]);
            *done += count as u64;
            if entry.size.is_some_and(|size| *done > size) {
                return Ok(Err(Refusal::Nonsense(
                    "it sends more bytes than the file has".to_owned(),
                )));
            }
            if told.elapsed() >= EVERY {
                told = Instant::now();
                self.tell(entry, *done);
            }
        }
    }

    fn tell(&self, entry: &Entry, done: u64) {
        (self.watch.tell)(Step::File {
            source: self.reference.to_string(),
            file: entry.name.clone(),
            done,
            total: entry.size.unwrap_or(done),
        });
    }

    fn told(&self, refusal: &Refusal, entry: &Entry) -> Error {
        let error = self.client.told(refusal, self.reference, self.watch.cancelled);
        match error.kind {
            fracture_stage::ErrorKind::Interrupted => error,
            _ => error.context(format!("can not fetch `{}`", self.reference.file(&entry.name))),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
