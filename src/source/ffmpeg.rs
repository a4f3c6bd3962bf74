//! Whatever ffmpeg can read, through a child process that writes Y4M to a pipe.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::open::{Pace, SourceOptions};
use super::stream::{Container, PATIENCE, Pacer, Polled, Pump};
use super::{FrameSource, Next, Picture, source_error};
use crate::error::{Error, Result};

/// A live stream that gives nothing for this long is connected afresh.
const STALL: Duration = Duration::from_secs(10);

/// Waits between attempts to connect double from the first to the last.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Bytes kept of what ffmpeg complains about.
const TAIL: usize = 2048;

/// A running ffmpeg. Dropping it ends the process and reaps it.
struct Running {
    child: Child,
    pump: Pump,
    complaints: Arc<Mutex<Vec<u8>>>,
    since: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(input: &Input, options: SourceOptions) -> Result<Self> {
        let mut child = command("ffmpeg", input, options).spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => source_error(
                &input.name,
                "needs the program ffmpeg, which is not installed; install it (`sudo apt install ffmpeg`), or pass \
                 pictures, Y4M or MJPEG, which eyas reads by itself",
            ),
            _ => Error::io("start ffmpeg")(error),
        })?;
        let complaints = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            keep_tail(stderr, Arc::clone(&complaints));
        }
        let mut stdout = child.stdout.take();
        let opener = move || match stdout.take() {
            Some(pipe) => Ok(Box::new(pipe) as Box<dyn Read + Send>),
            None => Ok(Box::new(std::io::empty()) as Box<dyn Read + Send>),
        };
        let pump = Pump::start(&input.name, Box::new(opener), Container::Y4m, false);
        let pump = pump.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self {
            child,
            pump,
            complaints,
            since: Instant::now(),
        })
    }

    /// Waits for the process, which has closed its output, and gives its last words.
    fn finish(mut self, input: &Input) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10))
                }
                Ok(status) => break status,
                Err(_) => break None,
            }
        };
        let tail = self
            .complaints
            .lock()
            .map(|tail| tail.clone())
            .unwrap_or_default();
        let tail = String::from_utf8_lossy(&tail);
        let last = tail.lines().rev().find(|line| !line.trim().is_empty());
        Outcome {
            success: status.is_some_and(|status| status.success()),
            last_words: last.map(|line| line.trim().replace(&input.argument, &input.name)),
        }
    }
}

/// How an ffmpeg ended.
struct Outcome {
    success: bool,
    last_words: Option<String>,
}

impl Outcome {
    fn reason(self) -> String {
        match self.last_words {
            Some(words) => format!("ffmpeg: {words}"),
            None => "ffmpeg ended without a frame".into(),
        }
    }
}

/// What ffmpeg is to read.
#[derive(Clone, Debug)]
struct Input {
    /// As the user named it, without a password.
    name: String,
    /// As ffmpeg is told.
    argument: String,
    is_live: bool,
}

fn command(program: &str, input: &Input, options: SourceOptions) -> Command {
    let mut command = Command::new(program);
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
    if input.argument.starts_with("rtsp://") || input.argument.starts_with("rtsps://") {
        command.args(["-rtsp_transport", "tcp"]);
    }
    if options.repeat && !input.is_live {
        command.args(["-stream_loop", "-1"]);
    }
    command.args(["-i", &input.argument, "-an", "-sn", "-dn"]);
    if let Some([width, height]) = options.size {
        command.args(["-vf", &format!("scale={width}:{height}")]);
    }
    command.args(["-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "pipe:1"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own: Ctrl-C on the terminal reaches eyas, which then ends the child.
    command.process_group(0);
    command
}

/// Keeps the end of what the process writes to stderr, on a thread that lives as long as the process.
fn keep_tail(mut stderr: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) {
    let work = move || {
        let mut buffer = [0; 512];
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            let Ok(mut tail) = tail.lock() else { return };
            tail.extend_from_slice(&buffer[..read]);
            let surplus = tail.len().saturating_sub(TAIL);
            tail.drain(..surplus);
        }
    };
    let thread = std::thread::Builder::new().name("ffmpeg-stderr".into());
    if let Err(error) = thread.spawn(work) {
        log::warn!("cannot start a thread for the messages of ffmpeg: {error}");
    }
}

/// A URL with its password replaced.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.into();
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority
        .rsplit_once('@')
        .and_then(|(user, _)| user.split_once(':'))
    {
        Some((user, password)) => {
            let after = &rest[user.len() + 1 + password.len()..];
            format!("{scheme}://{user}:***{after}")
        }
        None => url.into(),
    }
}

/// A video file, or a live stream that is connected afresh whenever it breaks off.
pub(super) struct FfmpegSource {
    input: Input,
    name: Arc<str>,
    options: SourceOptions,
    running: Option<Running>,
    pacer: Pacer,
    index: u64,
    retry_at: Instant,
    backoff: Duration,
    reason: String,
    ended: bool,
}

impl FfmpegSource {
    /// A video file.
    pub(super) fn file(path: &str, options: SourceOptions) -> Result<Self> {
        Self::new(
            Input {
                name: path.into(),
                argument: format!("file:{path}"),
                is_live: false,
            },
            options,
        )
    }

    /// A stream at a URL.
    pub(super) fn live(url: &str, options: SourceOptions) -> Result<Self> {
        Self::new(
            Input {
                name: without_password(url),
                argument: url.into(),
                is_live: true,
            },
            options,
        )
    }

    /// Starts ffmpeg; an error if it is not installed.
    fn new(input: Input, options: SourceOptions) -> Result<Self> {
        let running = Running::start(&input, options)?;
        Ok(Self {
            name: input.name.as_str().into(),
            running: Some(running),
            input,
            options,
            pacer: Pacer::new(),
            index: 0,
            retry_at: Instant::now(),
            backoff: BACKOFF[0],
            reason: String::new(),
            ended: false,
        })
    }

    fn frame(&mut self, picture: Picture, rate: Option<f64>) -> Next {
        self.backoff = BACKOFF[0];
        let rate = match self.options.pace {
            _ if self.input.is_live => None,
            Pace::Native => rate,
            Pace::Fps(fps) => Some(fps),
            Pace::Unpaced => None,
        };
        if let Some(rate) = rate {
            self.pacer.wait(rate);
        }
        self.index += 1;
        Next::Frame(picture.into_frame(self.index - 1, &self.name))
    }

    /// Gives the connection up until the next attempt.
    fn retry_later(&mut self, reason: String) -> Next {
        self.running = None;
        self.retry_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF[1]);
        self.reason = reason;
        Next::NoSignal(self.reason.clone())
    }

    /// The child has closed its output.
    fn closed(&mut self, running: Running) -> Result<Next> {
        let outcome = running.finish(&self.input);
        if self.input.is_live {
            return Ok(self.retry_later(outcome.reason()));
        }
        self.ended = true;
        match (self.index, outcome.success) {
            (0, _) => Err(source_error(&self.name, outcome.reason())),
            (_, true) => Ok(Next::End),
            (_, false) => {
                log::warn!("{}: {}", self.name, outcome.reason());
                Ok(Next::End)
            }
        }
    }
}

impl FrameSource for FfmpegSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Next> {
        if self.ended {
            return Ok(Next::End);
        }
        let Some(mut running) = self.running.take() else {
            let now = Instant::now();
            if now < self.retry_at {
                std::thread::sleep((self.retry_at - now).min(PATIENCE));
                return Ok(Next::NoSignal(self.reason.clone()));
            }
            self.running = Some(Running::start(&self.input, self.options)?);
            return Ok(Next::NoSignal(format!(
                "connecting again ({})",
                self.reason
            )));
        };
        match running.pump.poll() {
            Polled::Picture(picture) => {
                running.since = Instant::now();
                let rate = running.pump.rate;
                self.running = Some(running);
                Ok(self.frame(picture, rate))
            }
            Polled::TimedOut if self.input.is_live && running.since.elapsed() > STALL => {
                drop(running);
                let reason = format!("no frame for {} seconds", STALL.as_secs());
                Ok(self.retry_later(reason))
            }
            Polled::TimedOut => {
                self.running = Some(running);
                Ok(Next::NoSignal("waiting for a frame".into()))
            }
            Polled::Failed(error) => {
                log::debug!("{error}");
                self.closed(running)
            }
            Polled::Closed => self.closed(running),
        }
    }

    fn is_live(&self) -> bool {
        self.input.is_live || self.options.pace != Pace::Unpaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_installed() -> bool {
        let found = Command::new("ffmpeg").arg("-version").output().is_ok();
        if !found {
            println!("SKIPPED: ffmpeg is not installed");
        }
        found
    }

    #[test]
    fn passwords_stay_out_of_names() {
        assert_eq!(
            without_password("rtsp://me:se:cr@t@cam/1"),
            "rtsp://me:***@cam/1"
        );
        assert_eq!(
            without_password("rtsp://cam:554/a@b:c"),
            "rtsp://cam:554/a@b:c"
        );
        assert_eq!(without_password("http://me@cam/"), "http://me@cam/");
    }

    #[test]
    fn missing_program_is_said() {
        let input = Input {
            name: "x.mp4".into(),
            argument: "file:x.mp4".into(),
            is_live: false,
        };
        let error = command("no-such-program-here", &input, SourceOptions::default())
            .spawn()
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    /// A video of five frames made by ffmpeg itself.
    fn video(folder: &std::path::Path) -> String {
        let path = folder.join("v.avi").display().to_string();
        let made = Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-loglevel",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc=size=64x48:rate=10:duration=0.5",
            ])
            .args(["-c:v", "mjpeg", &path])
            .status()
            .unwrap();
        assert!(made.success());
        path
    }

    #[test]
    fn file_gives_its_frames_and_ends() {
        if !is_installed() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let options = SourceOptions {
            pace: Pace::Unpaced,
            ..Default::default()
        };
        let mut source = FfmpegSource::file(&video(folder.path()), options).unwrap();
        let mut frames = 0;
        loop {
            match source.next().unwrap() {
                Next::Frame(frame) => {
                    assert_eq!((frame.width, frame.height, frame.index), (64, 48, frames));
                    frames += 1;
                }
                Next::NoSignal(_) => {}
                Next::End => break,
            }
        }
        assert_eq!(frames, 5);
    }

    #[test]
    fn file_that_is_no_video_is_an_error_in_ffmpegs_words() {
        if !is_installed() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.mp4");
        std::fs::write(&path, b"no video at all").unwrap();
        let mut source =
            FfmpegSource::file(&path.display().to_string(), SourceOptions::default()).unwrap();
        let error = loop {
            match source.next() {
                Ok(Next::NoSignal(_)) => {}
                other => break other.unwrap_err().to_string(),
            }
        };
        assert!(
            error.contains("x.mp4") && error.contains("ffmpeg: "),
            "{error}"
        );
    }

    #[test]
    fn live_stream_that_fails_is_a_state() {
        if !is_installed() {
            return;
        }
        // Nobody listens on port 1.
        let mut source =
            FfmpegSource::live("http://u:secret@127.0.0.1:1/x", SourceOptions::default()).unwrap();
        let start = Instant::now();
        while source.backoff == BACKOFF[0] {
            match source.next().unwrap() {
                Next::NoSignal(reason) => assert!(!reason.contains("secret"), "{reason}"),
                other => panic!("{other:?}"),
            }
            assert!(start.elapsed() < Duration::from_secs(8));
        }
        assert!(matches!(source.next().unwrap(), Next::NoSignal(_)));
    }

    #[test]
    fn dropping_reaps_the_child() {
        if !is_installed() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let options = SourceOptions {
            repeat: true,
            pace: Pace::Unpaced,
            ..Default::default()
        };
        let mut source = FfmpegSource::file(&video(folder.path()), options).unwrap();
        while !matches!(source.next().unwrap(), Next::Frame(_)) {}
        let pid = source.running.as_ref().unwrap().child.id();
        drop(source);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
