//! A server of the OpenAI protocol that behaves as a test tells it: a thread a connection, nothing but `std`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "several tests share it, each uses a part"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
pub enum Reply {
    /// A JSON body.
    Json(u16, Value),
    /// Any head and body.
    Raw(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A head that promises more than comes, then the end.
    Cut,
    /// One byte of the body every so often, for ever.
    Drip(Duration),
    /// A body without end.
    Endless,
    /// Nothing, for so long, then an answer.
    Late(Duration, Value),
}

type Behaviour = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// A running server; its threads end with the process.
pub struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    side_by_side: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Server {
    /// Starts one. The behaviour is given each request and its number, from 0.
    pub fn start(behaviour: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let side_by_side: Arc<(AtomicUsize, AtomicUsize)> = Arc::default();
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (kept, counts) = (Arc::clone(&seen), Arc::clone(&side_by_side));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (behaviour, seen, counts) = (Arc::clone(&behaviour), Arc::clone(&kept), Arc::clone(&counts));
                std::thread::spawn(move || {
                    let now = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
                    counts.1.fetch_max(now, Ordering::SeqCst);
                    // Clients that go away are no fault of the server.
                    let _ = serve(stream, &*behaviour, &seen, &counts.0);
                });
            }
        });
        Self {
            port,
            seen,
            side_by_side,
        }
    }

    /// One that answers everything as it should.
    pub fn good() -> Self {
        Self::start(|seen, _| Reply::Json(200, answer(seen)))
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The most connections that were open at one time.
    pub fn most_at_once(&self) -> usize {
        self.side_by_side.1.load(Ordering::SeqCst)
    }
}

/// An answer whose text is a function of the request.
pub fn answer(seen: &Seen) -> Value {
    let body = &seen.body;
    let asked = match body.get("messages").and_then(Value::as_array) {
        Some(messages) => messages.last().unwrap()["content"].as_str().unwrap().to_owned(),
        None => body["prompt"].as_str().unwrap_or_default().to_owned(),
    };
    let text = format!("I heard: {} ({})", asked.len(), body["seed"]);
    says(seen, &text)
}

/// An answer with that text.
pub fn says(seen: &Seen, text: &str) -> Value {
    let tokens: Vec<&str> = text.split_inclusive(' ').collect();
    let mut choice = match seen.body.get("messages") {
        Some(_) => json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }),
        None => json!({ "index": 0, "text": text, "finish_reason": "stop" }),
    };
    if let Some(asked) = seen.body.get("logprobs").filter(|asked| **asked != json!(false)) {
        choice["logprobs"] = match asked {
            Value::Bool(_) => {
                let content = tokens
                    .iter()
                    .map(|token| json!({ "token": token, "logprob": -0.5, "top_logprobs": [] }));
                json!({ "content": content.collect::<Vec<_>>() })
            }
            _ => json!({ "tokens": tokens, "token_logprobs": vec![-0.5; tokens.len()], "top_logprobs": null }),
        };
    }
    json!({
        "id": "x", "object": "completion", "created": 1, "model": "served-1", "system_fingerprint": "fp_1",
        "choices": [choice],
        "usage": { "prompt_tokens": 10, "completion_tokens": tokens.len(), "total_tokens": 10 + tokens.len() },
    })
}

/// An error in the protocol's form.
pub fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::Json(
        status,
        json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": code } }),
    )
}

fn serve(stream: TcpStream, behaviour: &Behaviour, seen: &Mutex<Vec<Seen>>, open: &AtomicUsize) -> std::io::Result<()> {
    let closed = Closed(open);
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    let mut request = Seen {
        path,
        headers,
        body: Value::Null,
    };
    let length = request
        .header("content-length")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let action = behaviour(&request, number);
    if matches!(action, Reply::Json(..) | Reply::Raw(..)) {
        // The client has its answer, and may ask anew, before this thread is told that it was written.
        drop(closed);
    }
    reply(stream, action)
}

fn reply(mut stream: TcpStream, reply: Reply) -> std::io::Result<()> {
    let json = |stream: &mut TcpStream, status, value: &Value| {
        let headers = [("content-type", "application/json".to_owned())];
        write(stream, status, &headers, value.to_string().as_bytes())
    };
    match reply {
        Reply::Json(status, value) => json(&mut stream, status, &value),
        Reply::Raw(status, headers, body) => write(&mut stream, status, &headers, &body),
        Reply::Cut => {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"choices\": [{",
            )?;
            stream.flush()
        }
        Reply::Drip(pause) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                stream.flush()?;
                std::thread::sleep(pause);
            }
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\"")?;
            loop {
                stream.write_all(&[b'x'; 1 << 16])?;
            }
        }
        Reply::Late(wait, value) => {
            std::thread::sleep(wait);
            json(&mut stream, 200, &value)
        }
    }
}

fn write(stream: &mut TcpStream, status: u16, headers: &[(&'static str, String)], body: &[u8]) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    stream.flush()
}

struct Closed<'a>(&'a AtomicUsize);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
