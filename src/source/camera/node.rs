//! Which of the nodes under `/dev` are cameras.
//!
//! Most are not: a USB camera has a second node for metadata, a Raspberry Pi a dozen for its codecs and for the parts of
//! the image processor that libcamera drives.

use std::path::{Path, PathBuf};

use super::mode::Offer;

/// What a driver says of a node (`struct v4l2_capability`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capability {
    pub driver: String,
    pub card: String,
    pub bus: String,
    /// `V4L2_CAP_*` of this node, not of the whole device.
    pub flags: u32,
}

/// What eyas thinks of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It can be read, in these ways.
    Camera(Vec<Offer>),
    /// It cannot, for a reason in words.
    Skipped(String),
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub path: PathBuf,
    /// `None` if it could not be opened or asked.
    pub capability: Option<Capability>,
    pub verdict: Verdict,
    /// Other processes that have it open, as far as the system tells.
    pub users: Vec<String>,
}

impl Node {
    /// Whether it can be read.
    pub fn is_camera(&self) -> bool {
        matches!(self.verdict, Verdict::Camera(_))
    }
}

/// `V4L2_CAP_*` of `linux/videodev2.h`.
mod flag {
    pub const VIDEO_CAPTURE: u32 = 0x1;
    pub const VIDEO_OUTPUT: u32 = 0x2;
    pub const VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
    pub const VIDEO_OUTPUT_MPLANE: u32 = 0x2000;
    pub const VIDEO_M2M_MPLANE: u32 = 0x4000;
    pub const VIDEO_M2M: u32 = 0x8000;
    pub const META_CAPTURE: u32 = 0x80_0000;
    pub const STREAMING: u32 = 0x400_0000;
    pub const META_OUTPUT: u32 = 0x800_0000;
}

/// Drivers of the parts of a Raspberry Pi's ribbon cameras, by the beginning of their names.
const RIBBON_DRIVERS: [&str; 5] = ["unicam", "rp1-cfe", "bcm2835-isp", "pispbe", "rp1_cfe"];

/// Drivers of decoders and encoders that call themselves capture devices.
const CODEC_DRIVERS: [&str; 4] = ["bcm2835-codec", "rpivid", "rpi-hevc-dec", "hantro"];

/// Why a node is no camera; `None` if it may be one.
pub(super) fn refusal(capability: &Capability) -> Option<String> {
    let has = |flags: u32| capability.flags & flags != 0;
    let is_of = |drivers: &[&str]| {
        drivers
            .iter()
            .any(|driver| capability.driver.starts_with(driver))
    };
    let captures = has(flag::VIDEO_CAPTURE);
    let reason = if is_of(&RIBBON_DRIVERS) {
        "a part of the ribbon camera's image processor; ribbon cameras are read by --source csi"
    } else if has(flag::VIDEO_M2M | flag::VIDEO_M2M_MPLANE) || is_of(&CODEC_DRIVERS) {
        "a codec or an image processor, not a camera"
    } else if !captures && has(flag::META_CAPTURE | flag::META_OUTPUT) {
        "it carries the metadata of a camera, not its pictures"
    } else if !captures && has(flag::VIDEO_CAPTURE_MPLANE) {
        "its driver has the multi-planar interface only, which eyas does not read"
    } else if !captures && has(flag::VIDEO_OUTPUT | flag::VIDEO_OUTPUT_MPLANE) {
        "it shows pictures and takes none"
    } else if !captures {
        "it takes no pictures"
    } else if !has(flag::STREAMING) {
        "its driver cannot stream"
    } else {
        return None;
    };
    Some(reason.into())
}

/// Processes other than this one that have a file open, each as `name (process 123)`. Those of other users are seen
/// by root only.
pub(super) fn users(path: &Path) -> Vec<String> {
    let Ok(target) = path.canonicalize() else {
        return Vec::new();
    };
    let own = std::process::id().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut users = Vec::new();
    for process in processes.flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if id == own || !id.bytes().all(|c| c.is_ascii_digit()) {
            continue;
        }
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut links = files.flatten().map(|file| std::fs::read_link(file.path()));
        if links.any(|link| link.is_ok_and(|link| link == target)) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            users.push(format!("{} (process {id})", name.trim()));
        }
    }
    users.sort();
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(driver: &str, flags: u32) -> Option<String> {
        refusal(&Capability {
            driver: driver.into(),
            flags,
            ..Default::default()
        })
    }

    /// `device_caps` as the drivers set them.
    #[test]
    fn cameras_are_told_from_their_neighbours() {
        for (driver, flags) in [
            ("uvcvideo", 0x0420_0001),
            ("bm2835 mmal", 0x0520_0005),
            ("vivid", 0x0522_0001),
            ("v4l2 loopback", 0x0520_0001),
        ] {
            assert_eq!(refused(driver, flags), None, "{driver}");
        }
        for (driver, flags, word) in [
            ("uvcvideo", 0x04a0_0000, "metadata"),
            ("bcm2835-codec", 0x0420_4000, "codec"),
            ("rpi-hevc-dec", 0x0420_4000, "codec"),
            ("bcm2835-isp", 0x0420_0001, "csi"),
            ("bcm2835-isp", 0x0420_0002, "csi"),
            ("unicam", 0x2520_0001, "csi"),
            ("rp1-cfe", 0x24a0_0001, "csi"),
            ("pispbe", 0x0420_1000, "csi"),
            ("vivid", 0x0520_0002, "shows"),
            ("vimc", 0x0420_1000, "multi-planar"),
            ("radio", 0x0005_0000, "takes no"),
            ("old", 0x0100_0001, "stream"),
        ] {
            let reason = refused(driver, flags);
            assert!(
                reason.as_ref().is_some_and(|reason| reason.contains(word)),
                "{driver}: {reason:?}"
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_has_a_file_open_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        let file = std::fs::File::create(&path).unwrap();
        assert_eq!(users(&path), [""; 0]);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(file)
            .spawn()
            .unwrap();
        let found = users(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains(&format!("(process {})", child.id())),
            "{found:?}"
        );
    }
}
