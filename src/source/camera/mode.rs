//! What a camera offers, and which of it costs least.

use std::cmp::Reverse;
use std::fmt;

use crate::source::{PixelFormat, is_sane_size};

/// How a camera codes its pixels; the cheapest to take colours from first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    Nv12,
    Yuyv,
    Mjpeg,
    Grey,
}

impl Encoding {
    pub(super) const ALL: [Self; 4] = [Self::Nv12, Self::Yuyv, Self::Mjpeg, Self::Grey];

    /// The four characters of V4L2's name for it.
    pub(super) fn fourcc(self) -> &'static [u8; 4] {
        match self {
            Self::Nv12 => b"NV12",
            Self::Yuyv => b"YUYV",
            Self::Mjpeg => b"MJPG",
            Self::Grey => b"GREY",
        }
    }

    pub(super) fn of_fourcc(fourcc: [u8; 4]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|encoding| *encoding.fourcc() == fourcc)
    }

    /// The layout of its frames; none for compressed ones.
    pub(super) fn pixels(self) -> Option<PixelFormat> {
        match self {
            Self::Nv12 => Some(PixelFormat::Nv12),
            Self::Yuyv => Some(PixelFormat::Yuyv),
            Self::Grey => Some(PixelFormat::Grey),
            Self::Mjpeg => None,
        }
    }

    fn fits(self, [width, height]: [usize; 2]) -> bool {
        is_sane_size(width, height)
            && match self {
                Self::Nv12 => width.is_multiple_of(2) && height.is_multiple_of(2),
                Self::Yuyv => width.is_multiple_of(2),
                Self::Mjpeg | Self::Grey => true,
            }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nv12 => "NV12",
            Self::Yuyv => "YUYV",
            Self::Mjpeg => "MJPEG",
            Self::Grey => "GREY",
        })
    }
}

/// Time between two frames, in seconds, as V4L2 counts it. Neither part is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub numerator: u32,
    pub denominator: u32,
}

impl Interval {
    /// `None` if a part is 0.
    pub(super) fn new(numerator: u32, denominator: u32) -> Option<Self> {
        (numerator > 0 && denominator > 0).then_some(Self {
            numerator,
            denominator,
        })
    }

    /// Frames a second.
    pub fn rate(self) -> f64 {
        f64::from(self.denominator) / f64::from(self.numerator)
    }
}

/// Sizes of pictures, `[width, height]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    One([usize; 2]),
    /// All between two, in steps.
    Range {
        least: [usize; 2],
        most: [usize; 2],
        step: [usize; 2],
    },
}

impl Size {
    /// The size nearest to the wanted one, not below it where possible.
    pub(super) fn nearest(self, wanted: [usize; 2]) -> [usize; 2] {
        let Self::Range { least, most, step } = self else {
            let Self::One(size) = self else { return wanted };
            return size;
        };
        [0, 1].map(|side| {
            let step = step[side].max(1);
            let above = wanted[side].saturating_sub(least[side]);
            let rounded = least[side].saturating_add(above.div_ceil(step).saturating_mul(step));
            if rounded <= most[side] {
                return rounded;
            }
            let range = most[side].saturating_sub(least[side]);
            least[side] + range / step * step
        })
    }
}

/// Pictures that a camera can take.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub encoding: Encoding,
    pub size: Size,
    /// What is possible at this size, or at that of a range which is nearest to the wanted one. Empty if the driver
    /// does not tell.
    pub intervals: Vec<Interval>,
}

/// Pictures that a camera is to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mode {
    pub encoding: Encoding,
    pub size: [usize; 2],
    /// `None`: as the driver has it.
    pub interval: Option<Interval>,
    /// Whether the driver names this very size.
    pub is_listed: bool,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [width, height] = self.size;
        write!(f, "{width}x{height} {}", self.encoding)?;
        match self.interval {
            Some(interval) => write!(f, ", {} frames a second", tenths(interval.rate())),
            None => Ok(()),
        }
    }
}

/// With one digit after the point, unless it is 0.
fn tenths(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), Into::into)
}

/// What the user wants of a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wish {
    pub size: [usize; 2],
    /// Frames a second; infinity for as many as there can be.
    pub rate: f64,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            size: [640, 480],
            rate: 30.0,
        }
    }
}

/// The mode to use, `None` if nothing is offered that eyas reads. In this order: colour; the wanted size, else the
/// smallest that covers it, else the largest; the wanted rate, else the highest; the encoding that costs least.
pub(super) fn choose(offers: &[Offer], wish: Wish) -> Option<Mode> {
    let modes = offers.iter().filter_map(|offer| {
        let size = offer.size.nearest(wish.size);
        offer.encoding.fits(size).then(|| Mode {
            encoding: offer.encoding,
            size,
            interval: choose_interval(&offer.intervals, wish.rate),
            is_listed: matches!(offer.size, Size::One(_)),
        })
    });
    modes.min_by_key(|mode| {
        let area = mode.size[0] * mode.size[1];
        let covers = mode.size[0] >= wish.size[0] && mode.size[1] >= wish.size[1];
        let size = match (mode.size == wish.size, covers) {
            (true, _) => (0, area, Reverse(0)),
            (_, true) => (1, area, Reverse(0)),
            (_, false) => (2, 0, Reverse(area)),
        };
        let missing = mode
            .interval
            .map_or(0, |interval| missing(interval, wish.rate));
        let is_grey = mode.encoding == Encoding::Grey;
        (is_grey, size, missing, mode.encoding)
    })
}

/// The longest interval that gives the wanted rate, else the shortest.
fn choose_interval(intervals: &[Interval], rate: f64) -> Option<Interval> {
    let key = |interval: &Interval| (missing(*interval, rate), thousandths(interval.rate()));
    intervals.iter().copied().min_by_key(key)
}

/// By how much a rate falls short, in thousandths; a twentieth counts as none.
fn missing(interval: Interval, wanted: f64) -> u64 {
    let rate = interval.rate();
    if rate >= wanted * 0.95 {
        return 0;
    }
    thousandths(wanted.min(1e6) - rate)
}

fn thousandths(value: f64) -> u64 {
    (value * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(encoding: Encoding, size: [usize; 2], rates: &[u32]) -> Offer {
        let intervals = rates.iter().filter_map(|&rate| Interval::new(1, rate));
        Offer {
            encoding,
            size: Size::One(size),
            intervals: intervals.collect(),
        }
    }

    fn wish(size: [usize; 2], rate: f64) -> Wish {
        Wish { size, rate }
    }

    /// As a common USB webcam lists itself.
    fn webcam() -> Vec<Offer> {
        use Encoding::{Mjpeg, Yuyv};
        vec![
            offer(Mjpeg, [640, 480], &[30, 15]),
            offer(Mjpeg, [1280, 720], &[30, 15]),
            offer(Mjpeg, [1920, 1080], &[30, 15]),
            offer(Yuyv, [640, 480], &[30, 25, 20, 15, 10, 5]),
            offer(Yuyv, [320, 240], &[30, 25, 20, 15, 10, 5]),
            offer(Yuyv, [1280, 720], &[10, 5]),
        ]
    }

    fn chosen(offers: &[Offer], wish: Wish) -> String {
        choose(offers, wish).unwrap().to_string()
    }

    #[test]
    fn no_decoding_where_the_rate_allows_it() {
        let text = |size, rate| chosen(&webcam(), wish(size, rate));
        assert_eq!(text([640, 480], 30.0), "640x480 YUYV, 30 frames a second");
        assert_eq!(text([640, 480], 12.0), "640x480 YUYV, 15 frames a second");
        assert_eq!(text([1280, 720], 10.0), "1280x720 YUYV, 10 frames a second");
        assert_eq!(
            text([1280, 720], 15.0),
            "1280x720 MJPEG, 15 frames a second"
        );
    }

    #[test]
    fn a_size_that_is_not_offered_is_covered_or_else_the_largest_is_taken() {
        let text = |size| chosen(&webcam(), wish(size, 5.0));
        assert_eq!(text([600, 400]), "640x480 YUYV, 5 frames a second");
        assert_eq!(text([1000, 700]), "1280x720 YUYV, 5 frames a second");
        assert_eq!(text([4000, 3000]), "1920x1080 MJPEG, 15 frames a second");
    }

    #[test]
    fn as_many_frames_as_there_can_be() {
        let found = choose(&webcam(), wish([1280, 720], f64::INFINITY)).unwrap();
        assert_eq!(
            (found.encoding, found.interval.unwrap().rate()),
            (Encoding::Mjpeg, 30.0)
        );
    }

    #[test]
    fn grey_only_where_nothing_else_is() {
        let grey = offer(Encoding::Grey, [640, 480], &[30]);
        let far = offer(Encoding::Mjpeg, [160, 120], &[5]);
        let found = choose(&[grey.clone(), far], Wish::default()).unwrap();
        assert_eq!(found.encoding, Encoding::Mjpeg);
        let found = choose(&[grey], Wish::default()).unwrap();
        assert_eq!(found.encoding, Encoding::Grey);
        assert_eq!(choose(&[], Wish::default()), None);
    }

    #[test]
    fn fractional_rates_count() {
        let intervals = vec![
            Interval::new(1001, 30000).unwrap(),
            Interval::new(2, 15).unwrap(),
        ];
        let mut offer = offer(Encoding::Nv12, [640, 480], &[]);
        offer.intervals = intervals;
        let rate = |rate| {
            choose(&[offer.clone()], wish([640, 480], rate))
                .unwrap()
                .to_string()
        };
        assert_eq!(rate(30.0), "640x480 NV12, 30 frames a second");
        assert_eq!(rate(7.0), "640x480 NV12, 7.5 frames a second");
        offer.intervals.clear();
        assert_eq!(chosen(&[offer], Wish::default()), "640x480 NV12");
    }

    #[test]
    fn ranges_are_met_within_their_steps() {
        let range = Size::Range {
            least: [32, 32],
            most: [1000, 480],
            step: [16, 2],
        };
        assert_eq!(range.nearest([640, 480]), [640, 480]);
        assert_eq!(range.nearest([641, 31]), [656, 32]);
        assert_eq!(range.nearest([5000, 5000]), [992, 480]);
        let whole = Size::Range {
            least: [1, 1],
            most: [usize::MAX, usize::MAX],
            step: [0, usize::MAX],
        };
        assert_eq!(whole.nearest([640, 1]), [640, 1]);
    }

    #[test]
    fn sizes_that_a_layout_cannot_have_are_left_out() {
        let odd = offer(Encoding::Yuyv, [641, 480], &[30]);
        let none = offer(Encoding::Grey, [0, 480], &[30]);
        assert_eq!(choose(&[odd, none], Wish::default()), None);
    }
}
