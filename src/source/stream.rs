//! Streams of frames from a pipe or a file: Y4M, Motion JPEG, frames without headers.
//!
//! A thread reads and decodes; whoever asks for frames never waits longer than [`PATIENCE`].

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::mjpeg::Mjpeg;
use super::open::{Pace, RawFormat};
use super::y4m::{self, Y4m};
use super::{Frame, FrameSource, Next, Picture, PixelFormat, YuvRange, jpeg, source_error};
use crate::error::{Error, Result};

/// How long `next` waits for a frame.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What the reading thread passes on.
enum Item {
    /// Frames a second by the stream's header.
    Rate(f64),
    Picture(Picture),
    Failed(Error),
}

/// What a wait for the reading thread gave.
pub(super) enum Polled {
    Picture(Picture),
    TimedOut,
    Failed(Error),
    Closed,
}

/// What is known of the frames before they are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Container {
    /// Y4M or Motion JPEG, by content; of JPEGs no more than `least`, see [`jpeg::decode`].
    Detect {
        least: Option<[usize; 2]>,
    },
    Y4m,
    Raw {
        format: RawFormat,
        size: [usize; 2],
    },
    /// I420 in full range, even sides, each row of Y in so many bytes and each of U and V in half as many.
    PaddedI420 {
        size: [usize; 2],
        stride: usize,
    },
}

/// Makes the reader afresh for each round of a repeated file.
pub(super) type Opener = Box<dyn FnMut() -> Result<Box<dyn Read + Send>> + Send>;

/// A thread that turns bytes into pictures.
pub(super) struct Pump {
    items: Receiver<Item>,
    /// Frames a second by the stream's header, once it is read.
    pub(super) rate: Option<f64>,
}

impl Pump {
    /// Starts reading. With `repeat` the stream is opened again at its end.
    pub(super) fn start(
        name: &str,
        mut open: Opener,
        container: Container,
        repeat: bool,
    ) -> Result<Self> {
        let (sender, items) = sync_channel(1);
        let thread_name = name.to_owned();
        let work = move || {
            let mut round = || -> Result<bool> {
                let reader = BufReader::with_capacity(1 << 16, open()?);
                read_all(reader, &thread_name, container, &sender)
            };
            loop {
                match round() {
                    Ok(true) if repeat => {}
                    Ok(_) => break,
                    Err(error) => {
                        // The receiver may be gone already.
                        let _ = sender.send(Item::Failed(error));
                        break;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("source-reader".into())
            .spawn(work)
            .map_err(Error::io(format!("start a thread for {name}")))?;
        Ok(Self { items, rate: None })
    }

    /// Waits for the next picture, at most [`PATIENCE`].
    pub(super) fn poll(&mut self) -> Polled {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.items.recv_timeout(left) {
                Ok(Item::Rate(rate)) => self.rate = Some(rate),
                Ok(Item::Picture(picture)) => return Polled::Picture(picture),
                Ok(Item::Failed(error)) => return Polled::Failed(error),
                Err(RecvTimeoutError::Timeout) => return Polled::TimedOut,
                Err(RecvTimeoutError::Disconnected) => return Polled::Closed,
            }
        }
    }
}

/// Reads to the end and sends every picture. True if there was one and someone still listens.
fn read_all(
    mut reader: impl BufRead,
    name: &str,
    container: Container,
    sender: &SyncSender<Item>,
) -> Result<bool> {
    let mut any = false;
    let mut send = |picture| {
        any = true;
        sender.send(Item::Picture(picture)).is_ok()
    };
    let mut listening = true;
    match container {
        Container::Raw { format, size } => {
            while listening && let Some(picture) = read_raw(&mut reader, name, format, size)? {
                listening = send(picture);
            }
        }
        Container::PaddedI420 { size, stride } => {
            let format = RawFormat {
                pixels: PixelFormat::I420,
                range: YuvRange::Full,
            };
            let padded = [stride, size[1]];
            while listening && let Some(picture) = read_raw(&mut reader, name, format, padded)? {
                listening = send(narrowed(picture, size[0]));
            }
        }
        _ if container.is_y4m(&mut reader, name)? => {
            let mut stream = Y4m::new(reader, name)?;
            if let Some(rate) = stream.rate {
                listening = sender.send(Item::Rate(rate)).is_ok();
            }
            while listening && let Some(picture) = stream.next()? {
                listening = send(picture);
            }
        }
        _ => {
            let least = container.least();
            let mut stream = Mjpeg::new(reader, name);
            let mut damaged = 0u64;
            while listening && let Some(jpeg) = stream.next()? {
                match jpeg::decode(&jpeg, name, least) {
                    Ok(picture) => listening = send(picture),
                    Err(error) => {
                        if damaged == 0 {
                            log::warn!("{error}; such frames are skipped");
                        }
                        damaged += 1;
                    }
                }
            }
        }
    }
    Ok(any && listening)
}

impl Container {
    /// See [`Container::Detect`].
    fn least(self) -> Option<[usize; 2]> {
        match self {
            Self::Detect { least } => least,
            Self::Y4m | Self::Raw { .. } | Self::PaddedI420 { .. } => None,
        }
    }

    /// Whether a stream is Y4M; nothing is consumed. Waits for its first byte, which no JPEG shares.
    fn is_y4m(self, reader: &mut impl BufRead, name: &str) -> Result<bool> {
        match self {
            Self::Y4m => Ok(true),
            Self::Raw { .. } | Self::PaddedI420 { .. } => Ok(false),
            Self::Detect { .. } => {
                let first = reader
                    .fill_buf()
                    .map_err(Error::io(format!("read {name}")))?;
                Ok(first.first() == y4m::MAGIC.first())
            }
        }
    }
}

fn read_raw(
    reader: &mut impl Read,
    name: &str,
    format: RawFormat,
    size: [usize; 2],
) -> Result<Option<Picture>> {
    let [width, height] = size;
    let bytes = format.pixels.frame_bytes(width, height);
    let mut data = Vec::with_capacity(bytes);
    let read = reader.by_ref().take(bytes as u64).read_to_end(&mut data);
    match read.map_err(Error::io(format!("read {name}")))? {
        0 => Ok(None),
        read if read == bytes => Ok(Some(Picture {
            width,
            height,
            format: format.pixels,
            range: format.range,
            data,
        })),
        read => Err(source_error(
            name,
            format!("ends {read} bytes into a frame of {bytes}; do --size and the format fit?"),
        )),
    }
}

/// The left of an I420 picture, of an even width.
fn narrowed(mut picture: Picture, width: usize) -> Picture {
    let Picture {
        width: wide,
        height,
        ..
    } = picture;
    let luma = (0..height).map(|row| (row * wide, width));
    let chroma = (0..height).map(|row| (height * wide + row * wide / 2, width / 2));
    let mut end = 0;
    for (start, length) in luma.chain(chroma) {
        picture.data.copy_within(start..start + length, end);
        end += length;
    }
    picture.data.truncate(end);
    picture.width = width;
    picture
}

/// Keeps frames of a file at a steady rate.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    due: Option<Instant>,
}

impl Pacer {
    pub(super) fn new() -> Self {
        Self { due: None }
    }

    /// Sleeps until the next frame of a stream of `rate` frames a second is due. After a delay it goes on from there,
    /// without hurry. At most [`PATIENCE`].
    pub(super) fn wait(&mut self, rate: f64) {
        let now = Instant::now();
        let due = self.due.map_or(now, |due| due.max(now));
        std::thread::sleep((due - now).min(PATIENCE));
        self.due = Some(due + Duration::from_secs_f64(1.0 / rate.max(1.0)));
    }
}

/// A stream read from a pipe or a file.
pub(super) struct StreamSource {
    name: Arc<str>,
    pump: Pump,
    pace: Pace,
    is_pipe: bool,
    pacer: Pacer,
    index: u64,
    ended: bool,
}

impl StreamSource {
    /// Starts reading at once. A pipe is live and its own clock.
    pub(super) fn new(name: &str, pump: Pump, pace: Pace, is_pipe: bool) -> Self {
        Self {
            name: name.into(),
            pump,
            pace,
            is_pipe,
            pacer: Pacer::new(),
            index: 0,
            ended: false,
        }
    }

    fn rate(&self) -> Option<f64> {
        match self.pace {
            _ if self.is_pipe => None,
            Pace::Native => self.pump.rate,
            Pace::Fps(fps) => Some(fps),
            Pace::Unpaced => None,
        }
    }

    fn frame(&mut self, picture: Picture) -> Frame {
        if let Some(rate) = self.rate() {
            self.pacer.wait(rate);
        }
        self.index += 1;
        picture.into_frame(self.index - 1, &self.name)
    }
}

impl FrameSource for StreamSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Next> {
        if self.ended {
            return Ok(Next::End);
        }
        match self.pump.poll() {
            Polled::Picture(picture) => Ok(Next::Frame(self.frame(picture))),
            Polled::TimedOut => Ok(Next::NoSignal("no data for a second".into())),
            Polled::Failed(error) => {
                self.ended = true;
                // A stream that breaks off after some frames has ended, with a word about it.
                if self.index == 0 {
                    return Err(error);
                }
                log::warn!("{error}");
                Ok(Next::End)
            }
            Polled::Closed => {
                self.ended = true;
                Ok(Next::End)
            }
        }
    }

    fn is_live(&self) -> bool {
        self.is_pipe || self.pace != Pace::Unpaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECT: Container = Container::Detect { least: None };

    fn opener(bytes: Vec<u8>) -> Opener {
        Box::new(move || Ok(Box::new(std::io::Cursor::new(bytes.clone()))))
    }

    fn source(bytes: Vec<u8>, container: Container, pace: Pace, repeat: bool) -> StreamSource {
        let pump = Pump::start("x", opener(bytes), container, repeat).unwrap();
        StreamSource::new("x", pump, pace, false)
    }

    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        let picture = image::RgbImage::from_pixel(16, 8, image::Rgb([200, 30, 30]));
        let mut writer = std::io::Cursor::new(&mut bytes);
        picture
            .write_to(&mut writer, image::ImageFormat::Jpeg)
            .unwrap();
        bytes
    }

    #[test]
    fn raw_frames_are_counted_and_a_rest_is_reported() {
        let container = Container::Raw {
            format: RawFormat {
                pixels: PixelFormat::Grey,
                range: YuvRange::Full,
            },
            size: [2, 2],
        };
        let mut stream = source((0..10).collect(), container, Pace::Unpaced, false);
        for index in 0..2 {
            let Next::Frame(frame) = stream.next().unwrap() else {
                panic!()
            };
            assert_eq!((frame.index, frame.data[0]), (index, 4 * index as u8));
        }
        assert!(matches!(stream.next().unwrap(), Next::End));
        let mut short = source(vec![1, 2, 3], container, Pace::Unpaced, false);
        assert!(short.next().unwrap_err().to_string().contains("--size"));
        assert!(matches!(short.next().unwrap(), Next::End));
    }

    #[test]
    fn containers_are_told_by_content() {
        let y4m = b"YUV4MPEG2 W2 H2 Cmono\nFRAME\nabcd".to_vec();
        let mut stream = source(y4m, DETECT, Pace::Unpaced, false);
        assert!(matches!(stream.next().unwrap(), Next::Frame(f) if f.data == b"abcd"));
        let mjpeg = [jpeg(), jpeg()].concat();
        let mut stream = source(mjpeg, DETECT, Pace::Unpaced, false);
        for _ in 0..2 {
            assert!(
                matches!(stream.next().unwrap(), Next::Frame(f) if (f.width, f.height) == (16, 8))
            );
        }
        assert!(matches!(stream.next().unwrap(), Next::End));
        let least = Some([8, 4]);
        let container = Container::Detect { least };
        let mut stream = source(jpeg(), container, Pace::Unpaced, false);
        assert!(matches!(stream.next().unwrap(), Next::Frame(f) if (f.width, f.height) == (8, 4)));
    }

    #[test]
    fn repeated_file_goes_on() {
        let y4m = b"YUV4MPEG2 W2 H2 Cmono\nFRAME\nabcd".to_vec();
        let mut stream = source(y4m, DETECT, Pace::Unpaced, true);
        for index in 0..5 {
            assert!(matches!(stream.next().unwrap(), Next::Frame(f) if f.index == index));
        }
    }

    #[test]
    fn pace_of_the_header_is_kept() {
        let y4m = b"YUV4MPEG2 W2 H2 F20:1 Cmono\nFRAME\nabcd".to_vec();
        let mut stream = source(y4m, DETECT, Pace::Native, true);
        let start = Instant::now();
        for _ in 0..5 {
            stream.next().unwrap();
        }
        assert!(start.elapsed() >= Duration::from_millis(190));
    }

    #[test]
    fn silent_pipe_is_no_signal_within_its_patience() {
        struct Silent;
        impl Read for Silent {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                std::thread::sleep(Duration::from_secs(5));
                Ok(0)
            }
        }
        let open: Opener = Box::new(|| Ok(Box::new(Silent)));
        let pump = Pump::start("-", open, DETECT, false).unwrap();
        let mut stream = StreamSource::new("-", pump, Pace::Native, true);
        let start = Instant::now();
        assert!(matches!(stream.next().unwrap(), Next::NoSignal(_)));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
