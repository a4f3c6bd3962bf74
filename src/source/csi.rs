//! Ribbon cameras of the Raspberry Pi, through the system's own `rpicam-vid` (`libcamera-vid` on older systems).
//!
//! The child writes I420 in full range whose rows are padded. It ends with eyas: its output pipe closes, and where
//! util-linux's `setpriv` is there, the kernel kills it even between two frames.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::child::{self, Outcome, Running};
use super::open::{Pace, SourceOptions};
use super::retry::Retry;
use super::stream::{Container, Polled};
use super::{FrameSource, Next, Picture, source_error};
use crate::error::{Error, Result};

/// The program, by its names of today and before.
const PROGRAMS: [&str; 2] = ["rpicam-vid", "libcamera-vid"];

/// A camera that gives nothing for this long is started afresh.
const STALL: Duration = Duration::from_secs(5);

/// The first and the longest wait between attempts.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// How long the list of cameras is waited for.
const LIST_LIMIT: Duration = Duration::from_secs(5);

/// Rows of the image processors of all Raspberry Pis begin at multiples of so many bytes.
const ROW_ALIGNMENT: usize = 64;

/// Lines of the program's complaints that are quoted.
const QUOTED_LINES: usize = 3;

/// A ribbon camera that the program lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibbonCamera {
    pub number: u32,
    /// Of its sensor.
    pub name: String,
}

/// The programs that ribbon cameras need, as found in the folders of `PATH`.
#[derive(Clone, Debug)]
struct Programs {
    vid: PathBuf,
    folders: OsString,
}

impl Programs {
    fn find(folders: &OsStr) -> Option<Self> {
        let vid = PROGRAMS
            .iter()
            .find_map(|name| child::find(name, folders))?;
        Some(Self {
            vid,
            folders: folders.into(),
        })
    }

    fn command(&self) -> Command {
        child::tied(&self.vid, &self.folders)
    }

    fn name(&self) -> String {
        let name = self.vid.file_name().unwrap_or(self.vid.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

/// The ribbon cameras that the program lists, or why none can be listed.
pub fn ribbon_cameras() -> std::result::Result<Vec<RibbonCamera>, String> {
    list(&child::search_path(), LIST_LIMIT)
}

fn list(folders: &OsStr, limit: Duration) -> std::result::Result<Vec<RibbonCamera>, String> {
    let Some(programs) = Programs::find(folders) else {
        return Err("rpicam-vid is not installed".into());
    };
    let name = programs.name();
    let mut command = programs.command();
    let output = child::output(command.arg("--list-cameras"), limit)
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    match output {
        Some(output) => Ok(parse_list(&String::from_utf8_lossy(&output))),
        None => Err(format!(
            "{name} --list-cameras gave no answer in {} seconds",
            limit.as_secs()
        )),
    }
}

/// `0 : imx708 [4608x2592 10-bit RGGB] (/base/axi/.../imx708@1a)`; USB cameras, which the program cannot read, left out.
fn parse_list(text: &str) -> Vec<RibbonCamera> {
    let camera = |line: &str| {
        let (number, rest) = line.split_once(" : ")?;
        let number = number.trim().parse().ok()?;
        let (name, place) = rest.split_once(' ').unwrap_or((rest, ""));
        (!place.contains("/usb")).then(|| RibbonCamera {
            number,
            name: name.trim().into(),
        })
    };
    text.lines().filter_map(camera).collect()
}

/// What the camera is asked for.
#[derive(Clone, Copy, Debug)]
struct Request {
    camera: u32,
    size: [usize; 2],
    /// Frames a second; none for the program's own choice.
    rate: Option<f64>,
}

impl Request {
    fn parse(spec: &str, options: SourceOptions) -> Result<Self> {
        let number = spec.strip_prefix("csi").unwrap_or(spec);
        let camera = match number.strip_prefix(':') {
            Some(number) => number.parse().ok(),
            None => number.is_empty().then_some(0),
        };
        let Some(camera) = camera else {
            return Err(Error::Usage(format!(
                "--source {spec}: not a ribbon camera; write csi, or csi:1 for the second one"
            )));
        };
        let size = options.size.unwrap_or([640, 480]);
        if size.iter().any(|side| !side.is_multiple_of(2)) {
            let [width, height] = size;
            return Err(Error::Usage(format!(
                "--size {width}x{height}: a ribbon camera needs even sides"
            )));
        }
        let rate = match options.pace {
            Pace::Native => Some(30.0),
            Pace::Fps(rate) => Some(rate),
            Pace::Unpaced => None,
        };
        Ok(Self { camera, size, rate })
    }

    fn arguments(self) -> Vec<String> {
        let [width, height] = self.size.map(|side| side.to_string());
        let camera = self.camera.to_string();
        let mut all: Vec<String> = [
            "--nopreview",
            "--timeout",
            "0",
            "--codec",
            "yuv420",
            "--flush",
            "--camera",
            &camera,
            "--width",
            &width,
            "--height",
            &height,
            "--output",
            "-",
        ]
        .map(Into::into)
        .into();
        if let Some(rate) = self.rate {
            all.extend(["--framerate".into(), rate.to_string()]);
        }
        all
    }

    fn container(self) -> Container {
        Container::PaddedI420 {
            size: self.size,
            stride: self.size[0].next_multiple_of(ROW_ALIGNMENT),
        }
    }
}

/// A ribbon camera, started afresh whenever it breaks off.
pub(super) struct CsiSource {
    name: Arc<str>,
    programs: Programs,
    request: Request,
    stall: Duration,
    running: Option<Running>,
    retry: Retry,
    index: u64,
}

impl CsiSource {
    /// Starts the program; an error if it is not installed.
    pub(super) fn new(spec: &str, options: SourceOptions) -> Result<Self> {
        Self::with(spec, options, &child::search_path(), STALL)
    }

    fn with(spec: &str, options: SourceOptions, folders: &OsStr, stall: Duration) -> Result<Self> {
        let request = Request::parse(spec, options)?;
        let Some(programs) = Programs::find(folders) else {
            return Err(source_error(
                spec,
                "needs the program rpicam-vid, which is not installed; on a Raspberry Pi install it (`sudo apt install \
                 rpicam-apps`)",
            ));
        };
        let mut source = Self {
            name: spec.into(),
            programs,
            request,
            stall,
            running: None,
            retry: Retry::new(BACKOFF[0], BACKOFF[1]),
            index: 0,
        };
        source.start()?;
        Ok(source)
    }

    fn start(&mut self) -> Result<()> {
        let mut command = self.programs.command();
        command.args(self.request.arguments());
        let running = Running::start(&mut command, &self.name, self.request.container())?;
        self.running = Some(running);
        Ok(())
    }

    fn frame(&mut self, picture: Picture) -> Next {
        self.retry.succeeded();
        self.index += 1;
        Next::Frame(picture.into_frame(self.index - 1, &self.name))
    }

    /// Why the program ended: in its own words, else by what was wrong with its output.
    fn reason(&self, outcome: Outcome, complaint: Option<Error>) -> String {
        let name = self.programs.name();
        let words = outcome.last_lines(QUOTED_LINES);
        match (words.is_empty(), complaint, outcome.signal()) {
            (false, _, _) => format!("{name}: {}", words.join("; ")),
            (true, _, Some(signal)) => format!("{name} was killed (signal {signal})"),
            (true, Some(error), None) => format!("{name}: {error}"),
            (true, None, None) => format!("{name} ended"),
        }
    }
}

impl FrameSource for CsiSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Next> {
        let Some(mut running) = self.running.take() else {
            if let Some(waiting) = self.retry.wait() {
                return Ok(waiting);
            }
            return Ok(match self.start() {
                Ok(()) => Next::NoSignal(self.retry.reason().into()),
                Err(error) => self.retry.later(error.to_string()),
            });
        };
        Ok(match running.poll() {
            Polled::Picture(picture) => {
                self.running = Some(running);
                self.frame(picture)
            }
            Polled::TimedOut if running.silence() >= self.stall => {
                let outcome = running.kill();
                let complaint = source_error(&self.name, "gives no frames and is started afresh");
                let reason = self.reason(outcome, Some(complaint));
                self.retry.later(reason)
            }
            Polled::TimedOut => {
                self.running = Some(running);
                Next::NoSignal("waiting for a frame".into())
            }
            Polled::Failed(error) => {
                let reason = self.reason(running.finish(), Some(error));
                self.retry.later(reason)
            }
            Polled::Closed => {
                let reason = self.reason(running.finish(), None);
                self.retry.later(reason)
            }
        })
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
