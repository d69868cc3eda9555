//! A hub of the tests' own: the addresses, headers and quirks of the real one that matter here, over plain sockets, with a
//! second server that large files are sent to, and faults on request.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// Files from here on are large: they are named by their SHA-256 and lie on another server.
const LARGE: usize = 100_000;

/// One request, as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `hub` or `store`.
    pub server: &'static str,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

/// How the next answers differ from what they should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// So many answers with that status.
    Status(u16, u32),
    /// One answer that asks to wait, in these words.
    Wait(&'static str),
    /// The connection is cut after so many bytes of each of the next answers with a large file.
    Cut(usize, u32),
    /// A byte of each of the next large files is another one.
    Flip(u32),
    /// Ranges are ignored.
    NoRanges,
    /// The models are only for those with this token, and gated.
    Gated(&'static str),
    /// The list of files says neither sizes nor names of contents.
    Bare,
    /// Large files are sent to this address, whatever it is.
    Elsewhere(String),
    /// The list of files has these names too.
    Names(Vec<String>),
    /// The hub's name for every content.
    Etag(String),
    /// Answers with the file of another commit.
    OtherCommit,
    /// Refuses, and says this.
    Word(String),
}

#[derive(Default)]
struct State {
    /// By repository and commit.
    commits: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
    /// By repository and branch.
    branches: BTreeMap<(String, String), String>,
    seen: Vec<Seen>,
    faults: Vec<Fault>,
}

/// The server.
#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    pub endpoint: String,
    store: String,
}

/// A commit of forty digits.
pub fn commit(number: u32) -> String {
    format!("{number:08x}").repeat(5)
}

/// The files of a folder.
pub fn folder(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

impl Server {
    pub fn start() -> Self {
        let (hub, store) = (listen(), listen());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            state: Arc::default(),
            endpoint: address(&hub),
            store: address(&store),
        };
        for (name, listener) in [("hub", hub), ("store", store)] {
            let server = server.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let server = server.clone();
                    std::thread::spawn(move || server.serve(name, stream));
                }
            });
        }
        server
    }

    /// Adds files as a commit, and lets a branch mean it.
    pub fn push(&self, repository: &str, branch: &str, number: u32, files: BTreeMap<String, Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        state.commits.insert((repository.to_owned(), commit(number)), files);
        state
            .branches
            .insert((repository.to_owned(), branch.to_owned()), commit(number));
    }

    pub fn fault(&self, fault: Fault) {
        self.state.lock().unwrap().faults.push(fault);
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// The requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    fn serve(&self, server: &'static str, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let (mut authorization, mut range) = (None, None);
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header).unwrap_or(0) == 0 || header == "\r\n" {
                    break;
                }
                let (name, value) = header.split_once(':').unwrap();
                match name.to_ascii_lowercase().as_str() {
                    "authorization" => authorization = Some(value.trim().to_owned()),
                    "range" => range = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
            let seen = Seen {
                server,
                path,
                authorization,
                range,
            };
            self.state.lock().unwrap().seen.push(seen.clone());
            let answer = match server {
                "hub" => self.hub(&seen),
                _ => self.large(&seen),
            };
            if !answer.send(&mut stream) {
                return;
            }
        }
    }

    fn hub(&self, seen: &Seen) -> Answer {
        let mut state = self.state.lock().unwrap();
        if let Some(status) = state.take_status() {
            return Answer::status(status, "");
        }
        if let Some(wait) = state.take_wait() {
            return Answer {
                headers: format!("Retry-After: {wait}\r\n"),
                ..Answer::status(429, "")
            };
        }
        for fault in &state.faults {
            if let Fault::Word(word) = fault {
                return Answer::status(403, word);
            }
            if let Fault::Gated(token) = fault {
                match &seen.authorization {
                    Some(given) if *given == format!("Bearer {token}") => {}
                    Some(_) => return Answer::status(403, "GatedRepo"),
                    None => return Answer::status(401, "GatedRepo"),
                }
            }
        }
        let path = seen.path.split('?').next().unwrap();
        if let Some(rest) = path.strip_prefix("/api/models/") {
            return state.list(rest);
        }
        let Some((repository, rest)) = path.trim_start_matches('/').split_once("/resolve/") else {
            return Answer::status(404, "");
        };
        let (revision, name) = rest.split_once('/').unwrap();
        let Some(at) = state.commit(repository, revision) else {
            return Answer::status(404, "RevisionNotFound");
        };
        let files = &state.commits[&(repository.to_owned(), at.clone())];
        let Some(bytes) = files.get(name).cloned() else {
            return Answer::status(404, "EntryNotFound");
        };
        let told = match state.faults.contains(&Fault::OtherCommit) {
            true => commit(999),
            false => at.clone(),
        };
        let mut headers = format!("X-Repo-Commit: {told}\r\n");
        let etag = state.etag(&bytes);
        if bytes.len() >= LARGE {
            let _ = write!(
                headers,
                "X-Linked-Size: {}\r\nX-Linked-ETag: \"{etag}\"\r\n",
                bytes.len()
            );
            let elsewhere = state.faults.iter().find_map(|fault| match fault {
                Fault::Elsewhere(address) => Some(address.clone()),
                _ => None,
            });
            let location =
                elsewhere.unwrap_or_else(|| format!("{}/{repository}/{at}/{name}?Signature=s3cret", self.store));
            let _ = write!(headers, "Location: {location}\r\n");
            return Answer {
                status: 302,
                headers,
                body: Vec::new(),
                cut: None,
            };
        }
        let _ = write!(headers, "ETag: \"{etag}\"\r\n");
        Answer::file(
            bytes,
            headers,
            seen.range.as_deref(),
            state.faults.contains(&Fault::NoRanges),
        )
    }

    /// A large file, on the other server.
    fn large(&self, seen: &Seen) -> Answer {
        let mut state = self.state.lock().unwrap();
        let path = seen.path.split('?').next().unwrap().trim_start_matches('/');
        let parts: Vec<&str> = path.splitn(4, '/').collect();
        let key = (format!("{}/{}", parts[0], parts[1]), parts[2].to_owned());
        let mut bytes = state.commits[&key][parts[3]].clone();
        if state.take(|fault| matches!(fault, Fault::Flip(_))) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let ranges = state.faults.contains(&Fault::NoRanges);
        let cut = state.faults.iter().find_map(|fault| match fault {
            Fault::Cut(at, _) => Some(*at),
            _ => None,
        });
        let cut = cut.filter(|_| state.take(|fault| matches!(fault, Fault::Cut(..))));
        Answer {
            cut,
            ..Answer::file(bytes, String::new(), seen.range.as_deref(), ranges)
        }
    }
}

impl State {
    /// Uses up one of a counted fault.
    fn take(&mut self, is: impl Fn(&Fault) -> bool) -> bool {
        let Some(at) = self.faults.iter().position(is) else {
            return false;
        };
        let left = match &mut self.faults[at] {
            Fault::Status(_, left) | Fault::Cut(_, left) | Fault::Flip(left) => {
                *left -= 1;
                *left
            }
            _ => 1,
        };
        if left == 0 {
            self.faults.remove(at);
        }
        true
    }

    fn take_wait(&mut self) -> Option<&'static str> {
        let at = self.faults.iter().position(|fault| matches!(fault, Fault::Wait(_)))?;
        match self.faults.remove(at) {
            Fault::Wait(wait) => Some(wait),
            _ => None,
        }
    }

    fn take_status(&mut self) -> Option<u16> {
        let status = self.faults.iter().find_map(|fault| match fault {
            Fault::Status(status, _) => Some(*status),
            _ => None,
        })?;
        self.take(|fault| matches!(fault, Fault::Status(..)));
        Some(status)
    }

    fn commit(&self, repository: &str, revision: &str) -> Option<String> {
        let revision = revision.replace("%2F", "/");
        let branch = self.branches.get(&(repository.to_owned(), revision.clone()));
        let own = self.commits.contains_key(&(repository.to_owned(), revision.clone()));
        branch.cloned().or(own.then_some(revision))
    }

    fn etag(&self, bytes: &[u8]) -> String {
        let set = self.faults.iter().find_map(|fault| match fault {
            Fault::Etag(etag) => Some(etag.clone()),
            _ => None,
        });
        let hash = || {
            Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        set.unwrap_or_else(|| match bytes.len() >= LARGE {
            true => hash(),
            // The real hub names small files by SHA-1; any forty digits do.
            false => hash()[..40].to_owned(),
        })
    }

    fn list(&self, rest: &str) -> Answer {
        let (repository, revision) = rest.split_once("/revision/").unwrap_or((rest, "main"));
        if !self.commits.keys().any(|(known, _)| known == repository) {
            return Answer::status(404, "");
        }
        let Some(commit) = self.commit(repository, revision) else {
            return Answer::status(404, "");
        };
        let bare = self.faults.contains(&Fault::Bare);
        let mut siblings = Vec::new();
        for (name, bytes) in &self.commits[&(repository.to_owned(), commit.clone())] {
            let (etag, size) = (self.etag(bytes), bytes.len());
            siblings.push(match (bare, size >= LARGE) {
                (true, _) => format!(r#"{{"rfilename":"{name}"}}"#),
                (false, true) => format!(
                    r#"{{"rfilename":"{name}","size":{size},"blobId":"0","lfs":{{"sha256":"{etag}","size":{size},"pointerSize":1}}}}"#
                ),
                (false, false) => format!(r#"{{"rfilename":"{name}","size":{size},"blobId":"{etag}"}}"#),
            });
        }
        for fault in &self.faults {
            if let Fault::Names(names) = fault {
                siblings.extend(names.iter().map(|name| format!(r#"{{"rfilename":"{name}"}}"#)));
            }
        }
        let body = format!(
            r#"{{"sha":"{commit}","gated":false,"siblings":[{}]}}"#,
            siblings.join(",")
        );
        Answer::file(
            body.into_bytes(),
            "Content-Type: application/json\r\n".to_owned(),
            None,
            true,
        )
    }
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Answer {
    fn status(status: u16, code: &str) -> Self {
        let mut headers = String::new();
        if !code.is_empty() {
            let _ = write!(headers, "X-Error-Code: {code}\r\n");
        }
        Self {
            status,
            headers,
            body: Vec::new(),
            cut: None,
        }
    }

    fn file(bytes: Vec<u8>, mut headers: String, range: Option<&str>, ignore: bool) -> Self {
        let (mut status, total) = (200, bytes.len());
        let mut body = bytes;
        if let Some(range) = range.filter(|_| !ignore) {
            let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
            let start: usize = start.parse().unwrap();
            let end = end.parse().map_or(total, |end: usize| (end + 1).min(total));
            if start >= total {
                return Self::status(416, "");
            }
            status = 206;
            let _ = write!(headers, "Content-Range: bytes {start}-{}/{total}\r\n", end - 1);
            body = body[start..end].to_vec();
        }
        Self {
            status,
            headers,
            body,
            cut: None,
        }
    }

    /// Sends it; `false` when the connection is over.
    fn send(&self, stream: &mut TcpStream) -> bool {
        let head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {}\r\n{}\r\n",
            self.status,
            self.body.len(),
            self.headers
        );
        let body = &self.body[..self.cut.unwrap_or(self.body.len()).min(self.body.len())];
        // In one piece: a second one would wait for the first to be confirmed.
        let sent = stream.write_all(&[head.as_bytes(), body].concat());
        let whole = body.len() == self.body.len();
        if !whole {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        sent.is_ok() && whole
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
