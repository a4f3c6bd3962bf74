//! Other programs: those that write frames to a pipe, and those that are asked once.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::stream::{Container, PATIENCE, Polled, Pump};
use crate::error::{Error, Result};

/// Bytes kept of what a program complains about.
const TAIL: usize = 2048;

/// A running program. Dropping it ends the process and reaps it.
pub(super) struct Running {
    child: Child,
    pump: Pump,
    complaints: Arc<Mutex<Vec<u8>>>,
    /// Ends when nobody can write to stderr any more.
    listener: Option<JoinHandle<()>>,
    /// When it last gave a picture, or was started.
    since: Instant,
}

/// How a program ended.
pub(super) struct Outcome {
    /// None if eyas had to end it.
    status: Option<ExitStatus>,
    complaints: String,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The signal that another has ended it with.
    pub(super) fn signal(&self) -> Option<i32> {
        self.status.and_then(|status| status.signal())
    }

    /// The last lines of its stderr, at most so many.
    pub(super) fn last_lines(&self, most: usize) -> Vec<&str> {
        let lines = self.complaints.lines().map(str::trim);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(most)..].to_vec()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a process that leads a group, with whatever it has started, and reaps it.
fn end(child: &mut Child) {
    // Once the process has been reaped, its number may be another's.
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    // Both fail only if it has ended meanwhile.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

impl Running {
    /// Starts a program that reads nothing and writes frames to stdout. `name` is the source's, for messages.
    pub(super) fn start(command: &mut Command, name: &str, container: Container) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C on the terminal reaches eyas, which then ends the child.
            .process_group(0);
        let mut child = command
            .spawn()
            .map_err(Error::io(format!("start {:?}", command.get_program())))?;
        let complaints = Arc::default();
        let stderr = child.stderr.take();
        let listener = stderr.and_then(|stderr| keep_tail(stderr, Arc::clone(&complaints)));
        let mut stdout = child.stdout.take();
        let opener = move || match stdout.take() {
            Some(pipe) => Ok(Box::new(pipe) as Box<dyn Read + Send>),
            None => Ok(Box::new(std::io::empty()) as Box<dyn Read + Send>),
        };
        let pump = Pump::start(name, Box::new(opener), container, false);
        let pump = pump.inspect_err(|_| end(&mut child))?;
        Ok(Self {
            child,
            pump,
            complaints,
            listener,
            since: Instant::now(),
        })
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next picture, at most [`PATIENCE`].
    pub(super) fn poll(&mut self) -> Polled {
        let polled = self.pump.poll();
        if matches!(polled, Polled::Picture(_)) {
            self.since = Instant::now();
        }
        polled
    }

    /// Frames a second by the stream's header, once it is read.
    pub(super) fn rate(&self) -> Option<f64> {
        self.pump.rate
    }

    /// How long it has given no picture.
    pub(super) fn silence(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits a moment for the process, which has closed its output, and for its last words; then ends it.
    pub(super) fn finish(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            let status = self.child.try_wait().ok().flatten();
            let silent = self.listener.as_ref().is_none_or(JoinHandle::is_finished);
            if (status.is_some() && silent) || Instant::now() >= deadline {
                break status;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        self.outcome(status)
    }

    /// Ends the process.
    pub(super) fn kill(mut self) -> Outcome {
        end(&mut self.child);
        self.outcome(None)
    }

    fn outcome(&self, status: Option<ExitStatus>) -> Outcome {
        let tail = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Outcome {
            status,
            complaints: String::from_utf8_lossy(&tail).into_owned(),
        }
    }
}

/// The folders of the environment's `PATH`.
pub(super) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The program of a name in the folders of the environment's `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    find(name, &search_path())
}

/// The program of a name in the folders of a `PATH`.
pub(super) fn find(name: &str, folders: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        let metadata = path.metadata();
        metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(folders)
        .map(|folder| folder.join(name))
        .find(is_program)
}

/// Runs a program; the kernel kills it when the thread ends that starts it, if the folders of a `PATH` hold util-linux's
/// `setpriv`.
pub(super) fn tied(program: &Path, folders: &OsStr) -> Command {
    let Some(setpriv) = find("setpriv", folders) else {
        return Command::new(program);
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// What a program writes to stdout; `None` if it has not ended in time, and then it is killed. It should write little:
/// what no pipe holds counts as not ending.
pub(super) fn output(command: &mut Command, limit: Duration) -> std::io::Result<Option<Vec<u8>>> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            end(&mut child);
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().map(|output| Some(output.stdout))
}

/// Keeps the end of what the process writes to stderr, on a thread that lives as long as the process.
fn keep_tail(mut stderr: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) -> Option<JoinHandle<()>> {
    let work = move || {
        let mut buffer = [0; 512];
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            let Ok(mut tail) = tail.lock() else { return };
            tail.extend_from_slice(&buffer[..read]);
            let surplus = tail.len().saturating_sub(TAIL);
            tail.drain(..surplus);
        }
    };
    let thread = std::thread::Builder::new().name("child-stderr".into());
    let started = thread.spawn(work);
    let complain =
        |error| log::warn!("cannot start a thread for the messages of a program: {error}");
    started.map_err(complain).ok()
}
