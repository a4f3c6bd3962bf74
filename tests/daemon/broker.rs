//! A real mosquitto and its own clients.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::program::wait_until;

/// A broker on a port of this machine that does not outlive the test.
pub struct Broker {
    child: Child,
    pub port: u16,
    pub folder: tempfile::TempDir,
}

impl Broker {
    /// `None`, said loudly, where mosquitto is not installed.
    pub fn start() -> Option<Self> {
        Self::with("allow_anonymous true")
    }

    /// A broker with these lines in its configuration; `FOLDER` stands for [`Broker::folder`], which `prepare` fills.
    pub fn prepared(lines: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        if let Err(error) = command("mosquitto").arg("-h").output() {
            eprintln!(
                "SKIPPED: mosquitto does not run here ({error}), so no broker was told anything"
            );
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        let port = free_port();
        let lines = lines.replace("FOLDER", folder.path().to_str().expect("UTF-8"));
        // As root it would become a user who may not read the folder.
        let text = format!("user root\nlistener {port} 127.0.0.1\n{lines}\n");
        std::fs::write(folder.path().join("mosquitto.conf"), text).expect("writes");
        let child = run(folder.path());
        let broker = Self {
            child,
            port,
            folder,
        };
        broker.wait();
        Some(broker)
    }

    pub fn with(lines: &str) -> Option<Self> {
        Self::prepared(lines, |_| ())
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
    }

    /// Starts again, on the same port, with nothing remembered.
    pub fn restart(&mut self) {
        self.child = run(self.folder.path());
        self.wait();
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.expect("a shell").success());
    }

    /// Hears all topics from now on, and what is retained.
    pub fn listen(&self) -> Listener {
        self.listen_as(&[])
    }

    /// The same with more flags for mosquitto_sub.
    pub fn listen_as(&self, flags: &[&str]) -> Listener {
        Listener::start(self.port, flags)
    }

    pub fn publish(&self, topic: &str, payload: &str, flags: &[&str]) {
        let port = self.port.to_string();
        let mut publish = command("mosquitto_pub");
        publish.args(["-h", "127.0.0.1", "-p", &port, "-q", "1"]);
        publish.args(["-t", topic, "-m", payload]).args(flags);
        assert!(publish.status().expect("mosquitto_pub").success());
    }

    fn wait(&self) {
        wait_until("broker", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of mosquitto: Debian has the broker where only root's PATH looks.
fn command(name: &str) -> Command {
    let system = Path::new("/usr/sbin").join(name);
    if system.exists() {
        Command::new(system)
    } else {
        Command::new(name)
    }
}

fn run(folder: &Path) -> Child {
    let mut broker = command("mosquitto");
    broker.arg("-c").arg(folder.join("mosquitto.conf"));
    broker.stdout(Stdio::null()).stderr(Stdio::null());
    broker.spawn().expect("mosquitto starts")
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A message as mosquitto_sub received it.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    /// Kept by the broker from before.
    pub retained: bool,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running mosquitto_sub.
pub struct Listener {
    child: Child,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Listener {
    fn start(port: u16, flags: &[&str]) -> Self {
        let mut subscribe = command("mosquitto_sub");
        subscribe.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "#"]);
        subscribe.args(["-F", "%r %t %p"]).args(flags);
        let mut child = subscribe
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub starts");
        let stdout = child.stdout.take().expect("a pipe");
        let messages = Arc::new(Mutex::new(Vec::new()));
        let heard = messages.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, ' ');
                let mut part = || parts.next().unwrap_or_default().to_string();
                let message = Message {
                    retained: part() == "1",
                    topic: part(),
                    payload: part(),
                };
                heard.lock().expect("no panic").push(message);
            }
        });
        Self { child, messages }
    }

    /// All that was heard so far.
    pub fn heard(&self) -> Vec<Message> {
        self.messages.lock().expect("no panic").clone()
    }

    pub fn forget(&self) {
        self.messages.lock().expect("no panic").clear();
    }

    /// Waits for a message on a topic that is as wanted.
    pub fn wait_for(&self, topic: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let mut found = None;
        let start = std::time::Instant::now();
        while found.is_none() {
            let is_it = |message: &Message| message.topic == topic && wanted(message);
            found = self.heard().into_iter().find(is_it);
            if start.elapsed() > crate::program::PATIENCE {
                let mut stderr = std::io::stderr().lock();
                for message in self.heard() {
                    let _ = writeln!(stderr, "{message:?}");
                }
                panic!("no such message on {topic}");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        found.expect("it was found")
    }

    pub fn payload(&self, topic: &str, payload: &str) -> Message {
        self.wait_for(topic, |message| message.payload == payload)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
