//! Cameras of this machine, through Linux's V4L2.
//!
//! The format is settled through `v4l`. Frames come through nokhwa, which is built on it, where nokhwa knows the mode,
//! and through `v4l` itself where it does not: GREY, fractional rates, sizes from a range, rows with padding.

mod by_nokhwa;
mod by_v4l;
mod probe;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use v4l::video::Capture;
use v4l::video::capture::Parameters;

use super::device::{Device, Failure, Layout, Open};
use super::mode::{Encoding, Mode, Wish, choose};
use super::node::{self, Capability, Node, Verdict};
use crate::source::YuvRange;

/// Opens the camera at a path afresh. If the path is gone, the same camera is looked for under another: the number of
/// a camera that is plugged in again may change.
pub(super) fn opener(path: String, wish: Wish) -> Arc<Open> {
    let known = Mutex::new(None);
    Arc::new(move || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = locate(Path::new(&path), known.as_ref())?;
        let (device, capability) = open(&place, wish)?;
        *known = Some(capability);
        Ok(device)
    })
}

/// Every `/dev/video` node, by number.
pub(super) fn nodes(wish: Wish) -> Vec<Node> {
    paths().iter().map(|path| node(path, wish)).collect()
}

fn paths() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some((number(&entry.path())?, entry.path())))
        .collect();
    paths.sort();
    paths.into_iter().map(|(_, path)| path).collect()
}

/// The number of a node `/dev/videoN`.
fn number(path: &Path) -> Option<u32> {
    path.file_name()?
        .to_str()?
        .strip_prefix("video")?
        .parse()
        .ok()
}

fn node(path: &Path, wish: Wish) -> Node {
    let mut capability = None;
    let mut judge = || {
        let device = v4l::Device::with_path(path).map_err(|error| explain(&error, path))?;
        let found = capability.insert(probe::capability(&device, path)?);
        if let Some(reason) = node::refusal(found) {
            return Err(Failure::Lasting(reason));
        }
        let offers = probe::offers(&device, wish)?;
        choose(&offers, wish).map_or_else(|| Err(probe::useless(&device)), |_| Ok(offers))
    };
    let verdict = match judge() {
        Ok(offers) => Verdict::Camera(offers),
        Err(failure) => Verdict::Skipped(failure.reason()),
    };
    Node {
        path: path.into(),
        capability,
        verdict,
        users: node::users(path),
    }
}

fn locate(path: &Path, known: Option<&Capability>) -> Result<PathBuf, Failure> {
    if let Ok(place) = path.canonicalize() {
        return Ok(place);
    }
    let is_same = |place: &PathBuf| {
        let device = v4l::Device::with_path(place).ok();
        let capability = device.and_then(|device| probe::capability(&device, place).ok());
        capability.is_some_and(|found| Some(&found) == known)
    };
    let moved = known.and_then(|_| paths().into_iter().find(is_same));
    moved.ok_or_else(|| {
        Failure::Passing(format!(
            "there is no {} (`eyas doctor` lists the cameras)",
            path.display()
        ))
    })
}

fn open(path: &Path, wish: Wish) -> Result<(Box<dyn Device>, Capability), Failure> {
    let device = v4l::Device::with_path(path).map_err(|error| explain(&error, path))?;
    let capability = probe::capability(&device, path)?;
    if let Some(reason) = node::refusal(&capability) {
        return Err(Failure::Lasting(reason));
    }
    let offers = probe::offers(&device, wish)?;
    let mode = choose(&offers, wish).ok_or_else(|| probe::useless(&device))?;
    let layout = settle(&device, mode, path)?;
    let reader = nokhwa_reads(mode, layout).then(|| number(path)).flatten();
    log::info!(
        "{} at {}: {mode}{}",
        capability.card,
        path.display(),
        if reader.is_some() {
            ""
        } else {
            " (without nokhwa)"
        }
    );
    let device: Box<dyn Device> = match reader {
        Some(number) => {
            drop(device);
            Box::new(by_nokhwa::Reader::open(number, mode, layout, path)?)
        }
        None => Box::new(by_v4l::Reader::open(&device, layout, path)?),
    };
    Ok((device, capability))
}

/// Whether nokhwa knows the mode, and its frames need no more than their bytes to be understood.
fn nokhwa_reads(mode: Mode, layout: Layout) -> bool {
    let is_plain = match layout.encoding {
        Encoding::Mjpeg => true,
        Encoding::Yuyv => layout.stride == layout.width * 2,
        Encoding::Nv12 => layout.stride == layout.width,
        Encoding::Grey => false,
    };
    let is_whole = mode
        .interval
        .is_some_and(|interval| interval.numerator == 1);
    is_plain && is_whole && mode.is_listed && mode.size == [layout.width, layout.height]
}

/// Tells the driver the mode; gives what it made of it.
fn settle(device: &v4l::Device, mode: Mode, path: &Path) -> Result<Layout, Failure> {
    let too_large = || Failure::Lasting(format!("{mode} is too large"));
    let [width, height] = mode.size.map(u32::try_from);
    let (width, height) = (
        width.map_err(|_| too_large())?,
        height.map_err(|_| too_large())?,
    );
    let fourcc = v4l::FourCC::new(mode.encoding.fourcc());
    let wanted = v4l::Format::new(width, height, fourcc);
    let format = device
        .set_format(&wanted)
        .map_err(|error| explain(&error, path))?;
    if format.fourcc != fourcc {
        return Err(Failure::Passing(format!(
            "the driver was asked for {mode} and set {}",
            format.fourcc
        )));
    }
    if let Some(interval) = mode.interval {
        let fraction = v4l::Fraction::new(interval.numerator, interval.denominator);
        // The rate stays as it is where it cannot be set.
        if let Err(error) = device.set_params(&Parameters::new(fraction)) {
            log::debug!("{}: cannot set the rate: {error}", path.display());
        }
    }
    Ok(Layout {
        encoding: mode.encoding,
        width: format.width as usize,
        height: format.height as usize,
        stride: format.stride as usize,
        range: match format.quantization {
            v4l::format::Quantization::FullRange => YuvRange::Full,
            _ => YuvRange::Limited,
        },
    })
}

/// A system's error about a node, in words that say what to do.
fn explain(error: &io::Error, path: &Path) -> Failure {
    explain_code(error.raw_os_error(), &error.to_string(), path)
}

fn explain_code(code: Option<i32>, text: &str, path: &Path) -> Failure {
    let path_text = path.display();
    match code {
        Some(libc_codes::EACCES | libc_codes::EPERM) => Failure::Lasting(format!(
            "no permission for {path_text}; add yourself to the group video (`sudo usermod -aG video $USER`) and log in \
             again"
        )),
        Some(libc_codes::EBUSY) => {
            let users = node::users(path);
            let by = match users.is_empty() {
                true => "another program".into(),
                false => users.join(", "),
            };
            Failure::Passing(format!("{path_text} is in use by {by}"))
        }
        Some(libc_codes::ENODEV | libc_codes::ENXIO) => {
            Failure::Passing(format!("{path_text} was unplugged"))
        }
        Some(libc_codes::ENOTTY) => Failure::Lasting(format!("{path_text} is not a video device")),
        _ => Failure::Passing(format!("{path_text}: {text}")),
    }
}

/// Linux's error numbers, the same on every architecture that eyas builds for.
mod libc_codes {
    pub const EPERM: i32 = 1;
    pub const ENXIO: i32 = 6;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const ENODEV: i32 = 19;
    pub const ENOTTY: i32 = 25;
}

#[cfg(test)]
mod tests {
    use super::super::mode::Interval;
    use super::*;

    #[test]
    fn numbers_of_nodes() {
        assert_eq!(number(Path::new("/dev/video12")), Some(12));
        for other in ["/dev/video", "/dev/videox", "/dev/v4l-subdev0", "/"] {
            assert_eq!(number(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn nokhwa_reads_what_it_knows() {
        let mode = |encoding, numerator| Mode {
            encoding,
            size: [64, 48],
            interval: Interval::new(numerator, 30),
            is_listed: true,
        };
        let layout = |encoding, stride| Layout {
            encoding,
            width: 64,
            height: 48,
            stride,
            range: YuvRange::Limited,
        };
        let (yuyv, grey, mjpeg) = (Encoding::Yuyv, Encoding::Grey, Encoding::Mjpeg);
        assert!(nokhwa_reads(mode(yuyv, 1), layout(yuyv, 128)));
        assert!(nokhwa_reads(mode(mjpeg, 1), layout(mjpeg, 0)));
        assert!(!nokhwa_reads(mode(yuyv, 1), layout(yuyv, 192)));
        assert!(!nokhwa_reads(mode(yuyv, 4), layout(yuyv, 128)));
        assert!(!nokhwa_reads(mode(grey, 1), layout(grey, 64)));
        let range = Mode {
            is_listed: false,
            ..mode(yuyv, 1)
        };
        assert!(!nokhwa_reads(range, layout(yuyv, 128)));
    }

    #[test]
    fn errors_say_what_to_do() {
        let failure = |code| explain_code(Some(code), "text", Path::new("/dev/video9"));
        assert!(matches!(failure(13), Failure::Lasting(reason) if reason.contains("group video")));
        assert!(matches!(failure(16), Failure::Passing(reason) if reason.contains("in use")));
        assert!(matches!(failure(19), Failure::Passing(reason) if reason.contains("unplugged")));
        assert!(matches!(failure(5), Failure::Passing(reason) if reason.contains("text")));
    }

    #[test]
    fn what_is_no_camera_is_refused_in_words() {
        let open = |path: &str| opener(path.into(), Wish::default())().err();
        let absent = open("/dev/video-that-is-not-here");
        assert!(matches!(absent, Some(Failure::Passing(reason)) if reason.contains("there is no")));
        let null = open("/dev/null");
        assert!(
            matches!(null, Some(Failure::Lasting(reason)) if reason.contains("not a video device"))
        );
    }
}
