//! Frames through nokhwa.

use std::path::Path;
use std::time::{Duration, SystemTime};

use nokhwa::Camera;
use nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType,
    Resolution,
};

use super::super::device::{Device, Failure, Layout, Shot};
use super::super::mode::{Encoding, Mode};
use super::explain_code;

/// A camera that nokhwa reads. It waits for frames without a limit.
pub(super) struct Reader {
    camera: Camera,
    layout: Layout,
    place: std::path::PathBuf,
}

impl Reader {
    /// The camera `/dev/videoN`, in the mode that its driver has been set to.
    pub(super) fn open(
        number: u32,
        mode: Mode,
        layout: Layout,
        place: &Path,
    ) -> Result<Self, Failure> {
        let encoding = match mode.encoding {
            Encoding::Nv12 => FrameFormat::NV12,
            Encoding::Yuyv => FrameFormat::YUYV,
            Encoding::Mjpeg => FrameFormat::MJPEG,
            Encoding::Grey => FrameFormat::GRAY,
        };
        let [width, height] = mode
            .size
            .map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let rate = mode.interval.map_or(0, |interval| interval.denominator);
        let format = CameraFormat::new(Resolution::new(width, height), encoding, rate);
        let encodings = [encoding];
        let request = RequestedFormat::with_formats(RequestedFormatType::Exact(format), &encodings);
        let backend = ApiBackend::Video4Linux;
        let camera = Camera::with_backend(CameraIndex::Index(number), request, backend);
        let mut camera = camera.map_err(|error| failure(&error, place))?;
        camera
            .open_stream()
            .map_err(|error| failure(&error, place))?;
        Ok(Self {
            camera,
            layout,
            place: place.into(),
        })
    }
}

impl Device for Reader {
    fn shoot(&mut self) -> Result<Shot, Failure> {
        let frame = self.camera.frame();
        let frame = frame.map_err(|error| failure(&error, &self.place))?;
        let captured = frame
            .capture_timestamp()
            .map(|at| SystemTime::UNIX_EPOCH + at);
        let age = captured.and_then(|at| at.elapsed().ok());
        let bytes = frame.buffer_bytes();
        // The bytes belong to one owner again and need no copy.
        drop(frame);
        let age = age.unwrap_or(Duration::ZERO);
        Ok(Shot::aged(self.layout, bytes.into(), age))
    }
}

/// nokhwa passes on errors of the system as text, which ends with their number.
fn failure(error: &nokhwa::NokhwaError, place: &Path) -> Failure {
    let text = error.to_string();
    explain_code(code(&text), &text, place)
}

fn code(text: &str) -> Option<i32> {
    let (_, rest) = text.rsplit_once("(os error ")?;
    rest.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_found_in_their_text() {
        let busy = std::io::Error::from_raw_os_error(16);
        let error = nokhwa::NokhwaError::OpenStreamError(busy.to_string());
        assert_eq!(code(&error.to_string()), Some(16));
        assert_eq!(code("no number"), None);
        let reason = failure(&error, Path::new("/dev/video9")).reason();
        assert!(reason.contains("in use"), "{reason}");
    }
}
