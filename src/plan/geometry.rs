//! Where windowed operators read.

use std::ops::Range;

/// Patches begin at multiples of so many elements where that speeds up their use.
pub(super) const PATCH_ALIGNMENT: usize = 16;

/// A window that slides over pictures `[rows][columns][channels]`. Sizes are `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub input: [usize; 2],
    pub channels: usize,
    pub out: [usize; 2],
    pub window: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above, columns to the left.
    pub padding: [usize; 2],
}

impl Geometry {
    /// Whether every output pixel reads exactly the input pixel of the same position.
    pub fn is_pointwise(&self) -> bool {
        self.window == [1, 1]
            && self.stride == [1, 1]
            && self.padding == [0, 0]
            && self.input == self.out
    }

    /// Elements of an input picture.
    pub fn image(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    /// Elements of a window over all channels.
    pub fn depth(&self) -> usize {
        self.window[0] * self.window[1] * self.channels
    }

    /// Lays the windows of some output pixels, counted over all pictures, side by side, `stride` elements apart. Outside
    /// the pictures lies `fill`. What lies between the windows does not matter and may be overwritten, as may up to
    /// [`PATCH_ALIGNMENT`] elements behind the last one if there are any.
    pub fn gather<T: Copy>(
        &self,
        pixels: Range<usize>,
        input: &[T],
        patches: &mut [T],
        stride: usize,
        fill: T,
    ) {
        let picture = self.out[0] * self.out[1];
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let (image, y, x) = (
                pixel / picture,
                pixel % picture / self.out[1],
                pixel % self.out[1],
            );
            let count = (self.out[1] - x).min(pixels.end - pixel);
            let input = &input[image * self.image()..][..self.image()];
            let patches = &mut patches[(pixel - pixels.start) * stride..];
            self.gather_row(input, y, x..x + count, patches, stride, fill);
            pixel += count;
        }
    }

    /// The windows of some pixels of one output row.
    fn gather_row<T: Copy>(
        &self,
        input: &[T],
        y: usize,
        columns: Range<usize>,
        patches: &mut [T],
        stride: usize,
        fill: T,
    ) {
        let line = self.window[1] * self.channels;
        let row_elements = self.input[1] * self.channels;
        let row = |i: usize| {
            (y * self.stride[0] + i * self.dilation[0])
                .checked_sub(self.padding[0])
                .filter(|&source| source < self.input[0])
                .map(|source| &input[source * row_elements..][..row_elements])
        };
        // A vector is copied for each line of a window: so many windows have room for that.
        let room = patches
            .len()
            .checked_sub((self.window[0] - 1) * line + PATCH_ALIGNMENT);
        let vectors = self.vector_columns();
        let end = room.map_or(0, |room| columns.start + room / stride + 1);
        let start = vectors.start.clamp(columns.start, columns.end);
        let end = vectors.end.min(end).clamp(start, columns.end);
        let vectors = match [row(0), row(1), row(2)] {
            [Some(a), Some(b), Some(c)] if self.window[0] == 3 && start < end => {
                let patches = &mut patches[(start - columns.start) * stride..];
                self.gather_vectors([a, b, c], start..end, patches, stride);
                start..end
            }
            _ => start..start,
        };
        for x in (columns.start..vectors.start).chain(vectors.end..columns.end) {
            let patch = &mut patches[(x - columns.start) * stride..];
            for i in 0..self.window[0] {
                let line = &mut patch[i * line..][..line];
                match row(i) {
                    Some(row) => self.gather_line(row, x, line, fill),
                    None => line.fill(fill),
                }
            }
        }
    }

    /// Output columns whose windows lie inside the row, with a whole vector readable from where each line begins. None
    /// if a line does not fit a vector.
    fn vector_columns(&self) -> Range<usize> {
        let line = self.window[1] * self.channels;
        if self.dilation[1] != 1 || line > PATCH_ALIGNMENT {
            return 0..0;
        }
        let first = self.padding[1].div_ceil(self.stride[1]);
        let needed = PATCH_ALIGNMENT.div_ceil(self.channels);
        let last = (self.input[1] + self.padding[1]).checked_sub(needed);
        first..last.map_or(0, |last| last / self.stride[1] + 1)
    }

    /// The windows of [`Geometry::vector_columns`], a vector for each of the rows. What a vector writes behind its line,
    /// the next line or window writes again.
    fn gather_vectors<T: Copy, const ROWS: usize>(
        &self,
        rows: [&[T]; ROWS],
        columns: Range<usize>,
        patches: &mut [T],
        stride: usize,
    ) {
        let line = self.window[1] * self.channels;
        let step = self.stride[1] * self.channels;
        let first = (columns.start * self.stride[1] - self.padding[1]) * self.channels;
        let count = columns.len();
        let rows = rows.map(|row| &row[first..][..(count - 1) * step + PATCH_ALIGNMENT]);
        for at in 0..count {
            let patch = &mut patches[at * stride..][..(ROWS - 1) * line + PATCH_ALIGNMENT];
            for (i, row) in rows.iter().enumerate() {
                let vector = &row[at * step..][..PATCH_ALIGNMENT];
                patch[i * line..][..PATCH_ALIGNMENT].copy_from_slice(vector);
            }
        }
    }

    fn gather_line<T: Copy>(&self, row: &[T], x: usize, line: &mut [T], fill: T) {
        let (width, channels) = (self.input[1], self.channels);
        let start = (x * self.stride[1]).checked_sub(self.padding[1]);
        if let (1, Some(start)) = (self.dilation[1], start)
            && start + self.window[1] <= width
        {
            line.copy_from_slice(&row[start * channels..][..line.len()]);
            return;
        }
        for (j, pixel) in line.chunks_exact_mut(channels).enumerate() {
            let column = x * self.stride[1] + j * self.dilation[1];
            let column = column.checked_sub(self.padding[1]);
            match column.filter(|&column| column < width) {
                Some(column) => pixel.copy_from_slice(&row[column * channels..][..channels]),
                None => pixel.fill(fill),
            }
        }
    }

    /// Pixels of a padded row.
    pub fn padded_width(&self) -> usize {
        (self.out[1] - 1) * self.stride[1] + (self.window[1] - 1) * self.dilation[1] + 1
    }

    /// Padded rows that one output row reads from, first to last.
    pub fn reach(&self) -> usize {
        (self.window[0] - 1) * self.dilation[0] + 1
    }

    /// Brings into `ring` the padded rows that output row `y` needs, but those that the output row before, made just
    /// now unless `is_first`, needed too. Row `p` of the padded picture lies at `p % reach * row_elements`.
    pub fn fill_ring<T>(
        &self,
        y: usize,
        is_first: bool,
        ring: &mut [T],
        row_elements: usize,
        fill_row: impl Fn(Option<usize>, &mut [T]),
    ) {
        let reach = self.reach();
        let top = y * self.stride[0];
        let fresh = match is_first {
            true => reach,
            false => reach.min(self.stride[0]),
        };
        for padded in top + reach - fresh..top + reach {
            let row = &mut ring[padded % reach * row_elements..][..row_elements];
            let source = padded.checked_sub(self.padding[0]);
            fill_row(source.filter(|&row| row < self.input[0]), row);
        }
    }

    /// The rows of `ring` that the rows of the window over output row `y` read, in order.
    pub fn ring_rows<'a, T>(
        &self,
        y: usize,
        ring: &'a [T],
        row_elements: usize,
    ) -> [&'a [T]; MAX_KERNEL_ROWS] {
        let mut rows: [&[T]; MAX_KERNEL_ROWS] = [&[]; MAX_KERNEL_ROWS];
        for (i, row) in rows.iter_mut().take(self.window[0]).enumerate() {
            let padded = y * self.stride[0] + i * self.dilation[0];
            *row = &ring[padded % self.reach() * row_elements..][..row_elements];
        }
        rows
    }

    /// Converts input row `source` of a picture into a padded row, each channel as often as `multiplier` says.
    /// Outside the picture lies `fill`.
    pub fn pad_row<T: Copy, U: Copy>(
        &self,
        source: Option<usize>,
        multiplier: usize,
        input: &[T],
        row: &mut [U],
        fill: U,
        convert: impl Fn(T) -> U,
    ) {
        let channels = self.channels * multiplier;
        let Some(source) = source else {
            row.fill(fill);
            return;
        };
        let line = self.input[1] * self.channels;
        let line = &input[source * line..][..line];
        let (left, body) = row.split_at_mut(self.padding[1] * channels);
        left.fill(fill);
        let pixels = self.input[1].min(self.padded_width() - self.padding[1]);
        let (body, right) = body.split_at_mut(pixels * channels);
        right.fill(fill);
        if multiplier == 1 {
            for (out, &element) in body.iter_mut().zip(line) {
                *out = convert(element);
            }
        } else {
            for (out, &element) in body.chunks_exact_mut(multiplier).zip(line) {
                out.fill(convert(element));
            }
        }
    }
}

/// The most kernel rows of a depthwise convolution.
pub(super) const MAX_KERNEL_ROWS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        input: [2, 3],
        channels: 1,
        out: [2, 2],
        window: [2, 2],
        stride: [1, 2],
        dilation: [1, 1],
        padding: [1, 1],
    };

    #[test]
    fn windows_are_laid_side_by_side() {
        let mut patches = [0; 20];
        GEOMETRY.gather(0..4, &[1, 2, 3, 4, 5, 6], &mut patches, 5, 9);
        assert_eq!(patches[..10], [9, 9, 9, 1, 0, 9, 9, 2, 3, 0]);
        assert_eq!(patches[10..], [9, 1, 9, 4, 0, 2, 3, 5, 6, 0]);
    }

    /// Wide rows are copied a vector at a time.
    #[test]
    fn narrow_windows_of_wide_rows_are_laid_side_by_side() {
        let geometry = Geometry {
            input: [5, 23],
            channels: 3,
            out: [3, 12],
            window: [3, 3],
            stride: [2, 2],
            dilation: [1, 1],
            padding: [1, 1],
        };
        let input: Vec<i32> = (0..5 * 23 * 3).collect();
        for (first, stride) in [(0, 27), (7, 32)] {
            let mut patches = vec![-1; (36 - first) * stride];
            geometry.gather(first..36, &input, &mut patches, stride, -9);
            for (at, patch) in patches.chunks_exact(stride).enumerate() {
                let (y, x) = ((first + at) / 12, (first + at) % 12);
                for (tap, &got) in patch[..27].iter().enumerate() {
                    let (row, column) = (2 * y + tap / 9, 2 * x + tap / 3 % 3);
                    let is_outside = row < 1 || column < 1 || row > 5 || column > 23;
                    let expected = match is_outside {
                        true => -9,
                        false => (((row - 1) * 23 + column - 1) * 3 + tap % 3) as i32,
                    };
                    assert_eq!(got, expected, "{at} {tap}");
                }
            }
        }
    }

    #[test]
    fn a_ring_holds_the_rows_of_the_window() {
        let mut ring = [0; 8];
        let input = [1, 2, 3, 4, 5, 6];
        for y in 0..2 {
            GEOMETRY.fill_ring(y, y == 0, &mut ring, 4, |source, row| {
                GEOMETRY.pad_row(source, 1, &input, row, 9, |code| code);
            });
        }
        let rows = GEOMETRY.ring_rows(1, &ring, 4);
        assert_eq!(rows[..2], [&[9, 1, 2, 3], &[9, 4, 5, 6]]);
    }
}
