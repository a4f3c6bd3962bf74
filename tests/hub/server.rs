//! A file server on loopback that misbehaves as it is told, and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the client asked for: the request line, and the headers in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let find = |header: &&String| header.starts_with(&format!("{name}: "));
        self.headers
            .iter()
            .find(find)
            .map(|header| &header[name.len() + 2..])
    }

    /// The first byte of the range that was asked for.
    pub fn offset(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What the server does with a request.
pub enum Reply {
    /// Status line, headers, body. A `content-length` is added unless the body is chunked.
    Answer(&'static str, Vec<String>, Vec<u8>),
    /// As `Answer`, but the connection closes after so many bytes of the body.
    Cut(usize, Box<Reply>),
    /// As `Answer`, but only so many bytes of the body come, and the connection stays open.
    Hang(usize, Box<Reply>),
}

impl Reply {
    pub fn file(body: &[u8]) -> Self {
        Self::Answer("200 OK", vec!["etag: \"v1\"".into()], body.into())
    }

    /// The part of a file that a request asks for; all of it if it asks for none, or for one of another version.
    pub fn part(request: &Request, body: &[u8]) -> Self {
        let current = request.header("if-range").is_none_or(|tag| tag == "\"v1\"");
        match request.offset() {
            Some(offset) if current && offset < body.len() => {
                let (last, size) = (body.len() - 1, body.len());
                let range = format!("content-range: bytes {offset}-{last}/{size}");
                let headers = vec!["etag: \"v1\"".into(), range];
                Self::Answer("206 Partial Content", headers, body[offset..].into())
            }
            Some(_) if current => Self::status("416 Range Not Satisfiable"),
            _ => Self::file(body),
        }
    }

    pub fn status(status: &'static str) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    pub fn redirect(to: &str) -> Self {
        Self::Answer("302 Found", vec![format!("location: {to}")], Vec::new())
    }
}

type Script = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// Listens until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The script gets each request, with the number of those before it.
    pub fn start(script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stopped) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let script: Arc<Script> = Arc::new(script);
        let (seen, end) = (requests.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let (script, seen, end) = (script.clone(), seen.clone(), end.clone());
                connections.push(std::thread::spawn(move || {
                    serve(stream, &*script, &seen, &end)
                }));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Self {
            address,
            requests,
            stopped,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut stream: TcpStream, script: &Script, seen: &Mutex<Vec<Request>>, end: &AtomicBool) {
    let Some(request) = read_request(&stream) else {
        return;
    };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let (reply, limit, hangs) = match script(before, &request) {
        Reply::Cut(limit, reply) => (*reply, limit, false),
        Reply::Hang(limit, reply) => (*reply, limit, true),
        reply => (reply, usize::MAX, false),
    };
    let Reply::Answer(status, headers, body) = reply else {
        panic!("a reply is cut or hangs, not both");
    };
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for header in &headers {
        head += &format!("{header}\r\n");
    }
    if !headers
        .iter()
        .any(|header| header.starts_with("transfer-encoding"))
    {
        head += &format!("content-length: {}\r\n", body.len());
    }
    // The client may have seen enough.
    let _ = stream.write_all((head + "\r\n").as_bytes());
    let _ = stream.write_all(&body[..limit.min(body.len())]);
    while hangs && !end.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let line = lines.next()?;
    let headers = lines.take_while(|line| !line.is_empty());
    Some(Request {
        line,
        headers: headers.map(|header| header.to_ascii_lowercase()).collect(),
    })
}
