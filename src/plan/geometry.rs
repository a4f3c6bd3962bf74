//! Where windowed operators read.

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

    /// Lays the windows of `rows` output pixels from `first` on side by side. Outside the pictures lies `fill`.
    pub fn gather<T: Copy>(
        &self,
        first: usize,
        rows: usize,
        input: &[T],
        patches: &mut [T],
        fill: T,
    ) {
        let pixels = self.out[0] * self.out[1];
        let patches = patches.chunks_exact_mut(self.depth()).take(rows);
        for (row, patch) in patches.enumerate() {
            let (image, pixel) = ((first + row) / pixels, (first + row) % pixels);
            let (y, x) = (pixel / self.out[1], pixel % self.out[1]);
            let input = &input[image * self.image()..][..self.image()];
            let lines = patch.chunks_exact_mut(self.window[1] * self.channels);
            for (i, line) in lines.enumerate() {
                let source = y * self.stride[0] + i * self.dilation[0];
                let source = source.checked_sub(self.padding[0]);
                match source.filter(|&source| source < self.input[0]) {
                    Some(source) => self.gather_line(input, source, x, line, fill),
                    None => line.fill(fill),
                }
            }
        }
    }

    fn gather_line<T: Copy>(&self, input: &[T], row: usize, x: usize, line: &mut [T], fill: T) {
        let (width, channels) = (self.input[1], self.channels);
        let row = &input[row * width * channels..][..width * channels];
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
        let mut patches = [0; 16];
        GEOMETRY.gather(0, 4, &[1, 2, 3, 4, 5, 6], &mut patches, 9);
        assert_eq!(patches[..8], [9, 9, 9, 1, 9, 9, 2, 3]);
        assert_eq!(patches[8..], [9, 1, 9, 4, 2, 3, 5, 6]);
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
