//! Pictures that lie on surfaces.

use crate::error::{Error, Result};

/// A picture whose colours are multiplied by their opacity. One transparent texel lies round it, so that its edges fade
/// over a pixel when it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Texture {
    /// Without the border.
    width: usize,
    height: usize,
    /// Red in the lowest byte, then green, blue, opacity; the border included.
    texels: Vec<u32>,
}

impl Texture {
    fn from_fn(width: usize, height: usize, texel: impl Fn(usize, usize) -> [u8; 4]) -> Self {
        let mut texels = vec![0; (width + 2) * (height + 2)];
        for y in 0..height {
            let row = &mut texels[(y + 1) * (width + 2) + 1..][..width];
            for (x, out) in row.iter_mut().enumerate() {
                *out = u32::from_le_bytes(texel(x, y));
            }
        }
        Self {
            width,
            height,
            texels,
        }
    }

    /// An opaque picture from a PNG in the program.
    pub fn from_png(bytes: &[u8]) -> Result<Self> {
        let picture = image::load_from_memory(bytes)
            .map_err(|error| Error::Internal(format!("a picture of the demo scene: {error}")))?
            .into_rgb8();
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Ok(Self::from_fn(width, height, |x, y| {
            let [red, green, blue] = picture.get_pixel(x as u32, y as u32).0;
            [red, green, blue, 255]
        }))
    }

    /// One opaque colour.
    pub fn plain([red, green, blue]: [u8; 3], width: usize, height: usize) -> Self {
        Self::from_fn(width.max(1), height.max(1), |_, _| [red, green, blue, 255])
    }

    /// Black that fades towards the edges over `fade` of each side, `[0, 0.5]`; `strength` in the middle.
    pub fn shadow(fade: [f64; 2], strength: u8) -> Self {
        const SIDE: usize = 48;
        let ramp = |at: usize, fade: f64| {
            let at = (at as f64 + 0.5) / SIDE as f64;
            smooth((at.min(1.0 - at) / fade.max(1e-9)).min(1.0))
        };
        Self::from_fn(SIDE, SIDE, |x, y| {
            let opacity = ramp(x, fade[0]) * ramp(y, fade[1]) * f64::from(strength);
            [0, 0, 0, opacity as u8]
        })
    }

    /// Halved both ways until no more than two texels meet a pixel, `density` of them now.
    pub fn reduced(mut self, mut density: f64) -> Self {
        while density > 2.0 && self.width.max(self.height) > 1 {
            self = self.halved();
            density /= 2.0;
        }
        self
    }

    /// Means of 2x2 texels; an odd last row or column stands for two.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        Self::from_fn(width, height, |x, y| {
            let texel = |dx: usize, dy: usize| {
                let x = (2 * x + dx).min(self.width - 1) + 1;
                let y = (2 * y + dy).min(self.height - 1) + 1;
                self.texels[y * (self.width + 2) + x].to_le_bytes()
            };
            let four = [texel(0, 0), texel(1, 0), texel(0, 1), texel(1, 1)];
            std::array::from_fn(|i| {
                let sum: u16 = four.iter().map(|texel| u16::from(texel[i])).sum();
                ((sum + 2) / 4) as u8
            })
        })
    }

    /// Width and height without the border.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// The bilinear mean of four neighbours, at a place in 1/65536 of a texel; the border's first texel has its middle
    /// at `(0, 0)`. `None` outside.
    #[inline(always)]
    pub fn sample(&self, [x, y]: [i32; 2]) -> Option<u32> {
        // What is negative becomes large.
        let (left, top) = ((x >> 16) as usize, (y >> 16) as usize);
        if left > self.width || top > self.height {
            return None;
        }
        let part = |at: i32| (at >> 8 & 255) as u32;
        let stride = self.width + 2;
        let rows = &self.texels[top * stride + left..][..stride + 2];
        let upper = mix(rows[0], rows[1], part(x));
        let lower = mix(rows[stride], rows[stride + 1], part(x));
        Some(mix(upper, lower, part(y)))
    }
}

const EVEN: u32 = 0x00FF_00FF;

/// Four bytes at once: `part` of 256 of `b`, the rest of `a`.
#[inline(always)]
fn mix(a: u32, b: u32, part: u32) -> u32 {
    let blend = |a: u32, b: u32| (a * (256 - part) + b * part) >> 8 & EVEN;
    blend(a & EVEN, b & EVEN) | blend(a >> 8 & EVEN, b >> 8 & EVEN) << 8
}

/// Four bytes at once: `part` of 256.
#[inline(always)]
pub(super) fn scale(texel: u32, part: u32) -> u32 {
    mix(0, texel, part)
}

/// From 0 to 1 with level ends: `3 x^2 - 2 x^3`.
pub(super) fn smooth(x: f64) -> f64 {
    x * x * (3.0 - 2.0 * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_fade_into_the_border() {
        let texture = Texture::plain([200, 100, 40], 3, 2);
        let at = |x: f64, y: f64| {
            let place = [x, y].map(|v| (v * 65536.0) as i32);
            texture.sample(place).map(u32::to_le_bytes)
        };
        assert_eq!(at(2.0, 1.5), Some([200, 100, 40, 255]));
        assert_eq!(at(0.5, 1.5), Some([100, 50, 20, 127]));
        assert_eq!(at(0.0, 0.0), Some([0; 4]));
        for (x, y) in [(-0.1, 1.0), (4.0, 1.0), (1.0, 3.0), (1.0, -9e9)] {
            assert_eq!(at(x, y), None);
        }
    }

    #[test]
    fn reduction_takes_means_of_any_size() {
        let texture = Texture::from_fn(5, 1, |x, _| [10 * x as u8, 0, 0, 255]).reduced(4.0);
        assert_eq!(texture.size(), [3, 1]);
        assert_eq!(texture.sample([1 << 16; 2]).map(|t| t & 255), Some(5));
        assert_eq!(
            texture.sample([3 << 16, 1 << 16]).map(|t| t & 255),
            Some(40)
        );
        assert_eq!(texture.reduced(1e9).size(), [1, 1]);
    }

    #[test]
    fn shadows_are_darkest_in_the_middle() {
        let shadow = Texture::shadow([0.5, 0.2], 90);
        let opacity = |x: i32, y: i32| {
            shadow
                .sample([x << 16, y << 16])
                .map_or(0, |texel| texel >> 24)
        };
        assert!(opacity(24, 24) >= 89);
        assert!(opacity(1, 24) < 3 && opacity(24, 1) < 3);
        assert!(opacity(12, 24) < opacity(24, 12));
    }
}
