//! Whatever ffmpeg can read, through a child process that writes Y4M to a pipe.

use std::sync::Arc;
use std::time::Duration;

use super::child::{self, Outcome, Running};
use super::open::{Pace, SourceOptions};
use super::retry::Retry;
use super::stream::{Container, Pacer, Polled};
use super::{FrameSource, Next, Picture, source_error};
use crate::error::Result;

/// A live stream that gives nothing for this long is connected afresh.
const STALL: Duration = Duration::from_secs(10);

/// Waits between attempts to connect double from the first to the last.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Starts ffmpeg; an error if it is not installed.
fn start(input: &Input, options: SourceOptions) -> Result<Running> {
    let folders = child::search_path();
    let Some(program) = child::find("ffmpeg", &folders) else {
        return Err(source_error(
            &input.name,
            "needs the program ffmpeg, which is not installed; install it (`sudo apt install ffmpeg`), or pass \
             pictures, Y4M or MJPEG, which eyas reads by itself",
        ));
    };
    let mut command = child::tied(&program, &folders);
    command.args(arguments(input, options));
    Running::start(&mut command, &input.name, Container::Y4m)
}

/// Why it ended, in its own words where it has said any.
fn reason(outcome: &Outcome, input: &Input) -> String {
    match (&outcome.last_lines(1)[..], outcome.signal()) {
        ([words], _) => format!("ffmpeg: {}", words.replace(&input.argument, &input.name)),
        (_, Some(signal)) => format!("ffmpeg was killed (signal {signal})"),
        (_, None) => "ffmpeg ended without a frame".into(),
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

fn arguments(input: &Input, options: SourceOptions) -> Vec<String> {
    let mut all: Vec<String> = ["-nostdin", "-hide_banner", "-loglevel", "error"]
        .map(Into::into)
        .into();
    let mut add = |more: &[&str]| all.extend(more.iter().map(ToString::to_string));
    if input.argument.starts_with("rtsp://") || input.argument.starts_with("rtsps://") {
        add(&["-rtsp_transport", "tcp"]);
    }
    if options.repeat && !input.is_live {
        add(&["-stream_loop", "-1"]);
    }
    add(&["-i", &input.argument, "-an", "-sn", "-dn"]);
    if let Some([width, height]) = options.size {
        add(&["-vf", &format!("scale={width}:{height}")]);
    }
    add(&["-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "pipe:1"]);
    all
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
    retry: Retry,
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
        let running = start(&input, options)?;
        Ok(Self {
            name: input.name.as_str().into(),
            running: Some(running),
            input,
            options,
            pacer: Pacer::new(),
            index: 0,
            retry: Retry::new(BACKOFF[0], BACKOFF[1]),
            ended: false,
        })
    }

    fn frame(&mut self, picture: Picture, rate: Option<f64>) -> Next {
        self.retry.succeeded();
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

    /// The child has closed its output.
    fn closed(&mut self, running: Running) -> Result<Next> {
        let outcome = running.finish();
        let reason = reason(&outcome, &self.input);
        // A file that is repeated for ever ends no more than a stream does, once it has begun.
        if self.input.is_live || (self.options.repeat && self.index > 0) {
            return Ok(self.retry.later(reason));
        }
        self.ended = true;
        match (self.index, outcome.is_success()) {
            (0, _) => Err(source_error(&self.name, reason)),
            (_, true) => Ok(Next::End),
            (_, false) => {
                log::warn!("{}: {reason}", self.name);
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
            if let Some(waiting) = self.retry.wait() {
                return Ok(waiting);
            }
            return Ok(match start(&self.input, self.options) {
                Ok(running) => {
                    self.running = Some(running);
                    Next::NoSignal(format!("connecting again ({})", self.retry.reason()))
                }
                Err(error) => self.retry.later(error.to_string()),
            });
        };
        match running.poll() {
            Polled::Picture(picture) => {
                let rate = running.rate();
                self.running = Some(running);
                Ok(self.frame(picture, rate))
            }
            Polled::TimedOut if self.input.is_live && running.silence() > STALL => {
                drop(running);
                let reason = format!("no frame for {} seconds", STALL.as_secs());
                Ok(self.retry.later(reason))
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
    use std::process::Command;
    use std::time::Instant;

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
        while source.retry.reason().is_empty() {
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
        let pid = source.running.as_ref().unwrap().pid();
        drop(source);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    #[test]
    fn file_that_is_repeated_outlives_a_killed_ffmpeg() {
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
        let pid = source.running.as_ref().unwrap().pid();
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        loop {
            match source.next().unwrap() {
                Next::NoSignal(reason) if reason.contains("killed (signal 9)") => break,
                Next::End => panic!("it goes on for ever"),
                _ => {}
            }
        }
        let before = source.index;
        while source.index == before {
            assert!(!matches!(source.next().unwrap(), Next::End));
        }
    }
}
