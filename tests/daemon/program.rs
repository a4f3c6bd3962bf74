//! The real binary, with the model and the pictures of `tests/demo`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/demo")
        .join(name)
}

/// `eyas run` on a free port of this machine, which lacks a source and a model.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eyas"));
    command
        .args(["run", "--listen", "127.0.0.1:0", "--threads", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "JOURNAL_STREAM",
        "CREDENTIALS_DIRECTORY",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// Watches the pictures of the demo without end, so many a second.
pub fn with_scene(mut command: Command, fps: &str) -> Command {
    command.args(["--loop", "--fps", fps, "--source"]);
    command.arg(demo("scene"));
    command
}

/// Finds with the model of the demo.
pub fn with_model(mut command: Command) -> Command {
    command.arg("-m").arg(demo("colours.tflite"));
    command.arg("-l").arg(demo("colours.txt"));
    command
}

/// A child that does not outlive the test.
pub struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("a pipe");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits for a line that holds `words`.
    pub fn line(&self, words: &str) -> String {
        let mut found = None;
        wait_until(words, || {
            found = self
                .log()
                .lines()
                .find(|line| line.contains(words))
                .map(String::from);
            found.is_some() || !self.is_writing()
        });
        found.unwrap_or_else(|| panic!("no {words} in {}", self.log()))
    }

    /// Where the live page is.
    pub fn address(&self) -> SocketAddr {
        let line = self.line("live page: http://");
        let rest = line.split("http://").nth(1).expect("an address");
        rest.split('/')
            .next()
            .expect("an address")
            .parse()
            .expect("an address")
    }

    /// Its standard input, if the command has a pipe there.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .expect("a shell")
                .success()
        );
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("end", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("an end")
    }

    /// Whether the log may still grow.
    fn is_writing(&self) -> bool {
        Arc::strong_count(&self.log) > 1
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The answer, head and body, to a GET with more header lines.
pub fn get(address: SocketAddr, target: &str, headers: &str) -> String {
    String::from_utf8_lossy(&get_bytes(address, target, headers)).into_owned()
}

/// The same where the body is no text.
pub fn get_bytes(address: SocketAddr, target: &str, headers: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

/// What `/api/status` says.
pub fn status(program: &Program) -> Value {
    let answer = get(program.address(), "/api/status", "");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str(body).expect("JSON")
}
