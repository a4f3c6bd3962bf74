//! What drivers say of their nodes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;
use v4l::{Device, FourCC, Fraction};

use super::super::device::Failure;
use super::super::mode::{Encoding, Interval, Offer, Size, Wish};
use super::super::node::Capability;
use super::explain;

/// Asks a driver. `v4l` panics if names are not UTF-8 or values are new to it.
fn ask<T>(question: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let strange = "the driver gives an answer that the library v4l cannot take";
    catch_unwind(AssertUnwindSafe(question))
        .unwrap_or_else(|_| Err(Failure::Lasting(strange.into())))
}

pub(super) fn capability(device: &Device, path: &Path) -> Result<Capability, Failure> {
    ask(|| {
        let found = device.query_caps().map_err(|error| explain(&error, path))?;
        Ok(Capability {
            flags: found.capabilities.bits(),
            driver: found.driver,
            card: found.card,
            bus: found.bus,
        })
    })
}

/// What a camera offers in the encodings that eyas reads.
pub(super) fn offers(device: &Device, wish: Wish) -> Result<Vec<Offer>, Failure> {
    ask(|| {
        let mut offers = Vec::new();
        for format in device.enum_formats().unwrap_or_default() {
            let Some(encoding) = Encoding::of_fourcc(format.fourcc.repr) else {
                continue;
            };
            for found in device.enum_framesizes(format.fourcc).unwrap_or_default() {
                let size = size(&found.size);
                offers.push(Offer {
                    encoding,
                    size,
                    intervals: intervals(device, format.fourcc, size.nearest(wish.size), wish.rate),
                });
            }
        }
        Ok(offers)
    })
}

/// That nothing of what a camera offers can be read.
pub(super) fn useless(device: &Device) -> Failure {
    let formats = ask(|| Ok(device.enum_formats().unwrap_or_default())).unwrap_or_default();
    let names: Vec<_> = formats
        .iter()
        .map(|format| format.fourcc.to_string())
        .collect();
    let known: Vec<_> = Encoding::ALL.iter().map(ToString::to_string).collect();
    let offers = match names.is_empty() {
        true => "no format".into(),
        false => names.join(", "),
    };
    Failure::Lasting(format!(
        "it offers {offers}; eyas reads {}",
        known.join(", ")
    ))
}

fn size(size: &FrameSizeEnum) -> Size {
    let pair = |width: u32, height: u32| [width as usize, height as usize];
    match size {
        FrameSizeEnum::Discrete(size) => Size::One(pair(size.width, size.height)),
        FrameSizeEnum::Stepwise(range) => Size::Range {
            least: pair(range.min_width, range.min_height),
            most: pair(range.max_width, range.max_height),
            step: pair(range.step_width, range.step_height),
        },
    }
}

fn intervals(
    device: &Device,
    fourcc: FourCC,
    [width, height]: [usize; 2],
    rate: f64,
) -> Vec<Interval> {
    let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else {
        return Vec::new();
    };
    let found = device.enum_frameintervals(fourcc, width, height);
    let found = found.unwrap_or_default().into_iter();
    found
        .flat_map(|found| match found.interval {
            FrameIntervalEnum::Discrete(one) => vec![one],
            FrameIntervalEnum::Stepwise(range) => within(&range.min, &range.max, rate),
        })
        .filter_map(|fraction| Interval::new(fraction.numerator, fraction.denominator))
        .collect()
}

/// The ends of a range of intervals, and the interval of the wanted rate if it lies between them.
fn within(shortest: &Fraction, longest: &Fraction, rate: f64) -> Vec<Fraction> {
    let seconds =
        |fraction: &Fraction| f64::from(fraction.numerator) / f64::from(fraction.denominator);
    let mut found = vec![*shortest, *longest];
    if (seconds(shortest)..=seconds(longest)).contains(&(1.0 / rate)) {
        found.push(Fraction::new(1000, (rate * 1000.0) as u32));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_rate_within_a_range_is_taken() {
        let (shortest, longest) = (Fraction::new(1, 90), Fraction::new(1, 1));
        let rates = |rate| {
            let found = within(&shortest, &longest, rate);
            let rate = |f: &Fraction| f64::from(f.denominator) / f64::from(f.numerator);
            found.iter().map(rate).collect::<Vec<_>>()
        };
        assert_eq!(rates(12.5), [90.0, 1.0, 12.5]);
        assert_eq!(rates(100.0), [90.0, 1.0]);
        assert_eq!(rates(f64::INFINITY), [90.0, 1.0]);
        let broken = within(&Fraction::new(0, 0), &Fraction::new(1, 0), 30.0);
        assert_eq!(broken.len(), 2);
    }

    #[test]
    fn a_panic_of_the_library_is_a_failure() {
        let asked = ask::<()>(|| panic!("as v4l does"));
        assert!(matches!(asked, Err(Failure::Lasting(_))));
    }
}
