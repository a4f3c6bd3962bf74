//! A depthwise convolution with the convolution before it, the pointwise one behind it and a residual addition: the
//! inverted residual of MobileNetV2, the separable convolution of V1. It runs depth-first: a strip of rows passes all
//! of them before the next strip begins, so that the widest tensor is never whole and never leaves the cache.

use std::ops::Range;

use super::conv::{ChannelRange, Conv, DepthwiseConv, Target};
use super::pool::Pool;
use crate::kernels::GEMM_OVERREAD;
use crate::kernels::scalar::AddParams;

/// Bytes that a strip of the expanded tensor and of the filtered one may take together: a part of the second-level
/// cache of a Raspberry Pi (512 KiB, shared with the weights that pass by).
const STRIP_BYTES: usize = 128 * 1024;

/// Multiply-accumulates that a thread could make while it waits for the others to end a phase.
const PHASE_COST: f64 = 300_000.0;

/// Multiply-accumulates that a thread could make while a code that another thread made reaches it.
const HAND_OVER_COST: f64 = 16.0;

/// The layers of a block.
pub(super) struct Block {
    /// Any convolution. Without it the depthwise one reads the input.
    pub expand: Option<Conv>,
    /// Of multiplier 1.
    pub depthwise: DepthwiseConv,
    /// A pointwise convolution.
    pub project: Conv,
    pub residual: Option<Residual>,
    pub schedule: Schedule,
}

/// The addition at the end of a block.
pub(super) struct Residual {
    pub params: AddParams,
    pub add: fn(&AddParams, &[i8], &[i8], &mut [i8]),
    /// Whether the projection is the first operand.
    pub projection_is_first: bool,
}

/// How a block is shared out to threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// Each thread makes some rows of the output, and what it needs of the expanded rows at its edges a second time.
    Rows,
    /// Each thread makes some channels of the filtered tensor; when all are done, some pixels of the output.
    Channels { of_each: usize },
}

/// What [`Block::schedule`] decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub split: Split,
    /// Output rows of a strip.
    pub strip: usize,
    pub threads: usize,
}

/// Bytes of the parts of a thread's scratch, each a multiple of 64.
struct Parts {
    /// Expanded rows: row `r` lies at `r % ring_rows`.
    ring: usize,
    /// A row of padding.
    padding: usize,
    /// A strip of the filtered tensor, or a panel of it; then the projection reads it.
    filtered: usize,
    /// A strip of the projection, where an addition follows.
    projected: usize,
    /// The scratch of the convolutions.
    conv: usize,
}

/// A thread's scratch.
struct Work<'a> {
    ring: &'a mut [i8],
    padding: &'a mut [i8],
    filtered: &'a mut [i8],
    projected: &'a mut [i8],
    conv: &'a mut [i8],
}

/// Some channels of the tensor in the middle of a block.
#[derive(Clone, Copy, Debug)]
struct Part {
    first: usize,
    count: usize,
}

impl Block {
    /// Chooses how to share the layers out to `threads`, and in strips of how many rows.
    pub fn schedule(
        expand: Option<&Conv>,
        depthwise: &DepthwiseConv,
        project: &Conv,
        threads: usize,
    ) -> Schedule {
        let g = &depthwise.geometry;
        let rows = g.out[0];
        let per_row =
            |conv: &Conv, pixels: usize| (pixels * conv.weights.depth() * conv.channels()) as f64;
        let expand_row = expand.map_or(0.0, |conv| per_row(conv, g.input[1]));
        // A multiply-accumulate of a depthwise kernel takes several times as long as one of a product.
        let filter_row = 8.0 * (g.out[1] * g.window[0] * g.window[1] * g.channels) as f64;
        let filtered_row = (g.out[1] * g.channels) as f64;
        let project_row = per_row(project, g.out[1]);
        let job_rows = rows.div_ceil(threads);
        let expanded = |rows: usize| ((rows - 1) * g.stride[0] + g.reach()).min(g.input[0]) as f64;
        let by_rows =
            expanded(job_rows) * expand_row + job_rows as f64 * (filter_row + project_row);
        let granule = lcm(expand_granule(expand), depthwise.kernel.block);
        let of_each = g
            .channels
            .div_ceil(threads)
            .next_multiple_of(granule)
            .min(g.channels);
        let share = of_each as f64 / g.channels as f64;
        let by_channels = share * (expanded(rows) * expand_row + rows as f64 * filter_row)
            + rows as f64 * (project_row + HAND_OVER_COST * filtered_row) / threads as f64
            + PHASE_COST;
        let split = match threads > 1 && by_channels < by_rows {
            true => Split::Channels { of_each },
            false => Split::Rows,
        };
        let (rows, channels) = match split {
            Split::Rows => (job_rows, g.channels),
            Split::Channels { of_each } => (rows, of_each),
        };
        let input_row = expand.map_or(0, |_| g.input[1] * channels);
        let bytes_of_row = g.stride[0] * input_row + g.out[1] * channels;
        let overlap = g.reach().saturating_sub(g.stride[0]) * input_row;
        let most = (STRIP_BYTES.saturating_sub(overlap) / bytes_of_row.max(1)).clamp(1, rows);
        Schedule {
            split,
            strip: rows.div_ceil(rows.div_ceil(most)),
            threads,
        }
    }

    /// Channels of the tensor in the middle.
    fn channels(&self) -> usize {
        self.depthwise.weights.channels
    }

    /// Channels that one thread keeps of it.
    fn part_channels(&self) -> usize {
        match self.schedule.split {
            Split::Rows => self.channels(),
            Split::Channels { of_each } => of_each,
        }
    }

    fn out_pixels(&self) -> usize {
        self.depthwise.geometry.out[0] * self.depthwise.geometry.out[1]
    }

    /// Rows of the ring.
    fn ring_rows(&self) -> usize {
        let g = &self.depthwise.geometry;
        match self.expand {
            Some(_) => ((self.schedule.strip - 1) * g.stride[0] + g.reach()).min(g.input[0]),
            None => 0,
        }
    }

    /// Pixels that the projection makes at a time.
    fn projected_pixels(&self) -> usize {
        match self.schedule.split {
            Split::Rows => self.schedule.strip * self.depthwise.geometry.out[1],
            Split::Channels { .. } => {
                let tile = self.project.kernel.tile.mr;
                (STRIP_BYTES / 8 / self.channels())
                    .next_multiple_of(tile)
                    .max(tile)
            }
        }
    }

    fn parts(&self) -> Parts {
        let g = &self.depthwise.geometry;
        let pixels = self.projected_pixels();
        let round = |bytes: usize| bytes.next_multiple_of(64);
        let expand = self.expand.as_ref().map_or(0, Conv::job_scratch);
        let projected = match self.residual {
            Some(_) => pixels * self.project.channels(),
            None => 0,
        };
        Parts {
            ring: round(self.ring_rows() * g.input[1] * self.part_channels()),
            padding: round(g.input[1] * self.channels()),
            filtered: round(pixels * self.channels() + GEMM_OVERREAD),
            projected: round(projected),
            conv: round(expand.max(self.project.job_scratch())),
        }
    }

    /// Bytes of the filtered tensor that threads hand to each other.
    fn shared_bytes(&self) -> usize {
        match self.schedule.split {
            Split::Rows => 0,
            Split::Channels { of_each } => {
                let parts = self.channels().div_ceil(of_each);
                (parts * self.out_pixels() * of_each).next_multiple_of(64)
            }
        }
    }

    fn job_scratch(&self) -> usize {
        let parts = self.parts();
        parts.ring + parts.padding + parts.filtered + parts.projected + parts.conv
    }

    /// Bytes of scratch that the block needs in all.
    pub fn scratch(&self) -> usize {
        self.shared_bytes() + self.schedule.threads * self.job_scratch()
    }

    fn cut<'a>(&self, scratch: &'a mut [i8]) -> Work<'a> {
        let parts = self.parts();
        let (ring, rest) = scratch.split_at_mut(parts.ring);
        let (padding, rest) = rest.split_at_mut(parts.padding);
        let (filtered, rest) = rest.split_at_mut(parts.filtered);
        let (projected, conv) = rest.split_at_mut(parts.projected);
        padding.fill(self.depthwise.input_zero_point);
        Work {
            ring,
            padding,
            filtered,
            projected,
            conv,
        }
    }

    /// `input` holds a picture and [`GEMM_OVERREAD`] bytes behind it, `residual` what is added to the result.
    pub fn run(
        &self,
        input: &[i8],
        residual: Option<&[i8]>,
        out: &mut [i8],
        scratch: &mut [i8],
        pool: &Pool,
    ) {
        let (shared, scratch) = scratch.split_at_mut(self.shared_bytes());
        let channels = self.project.channels();
        let jobs = scratch.chunks_mut(self.job_scratch());
        match self.schedule.split {
            Split::Rows => {
                let g = &self.depthwise.geometry;
                let line = g.out[1] * channels;
                let rows = pool.rows_per_job(g.out[0], 1);
                let jobs = out.chunks_mut(rows * line).zip(jobs).enumerate();
                pool.share(jobs, &|(job, (out, scratch))| {
                    let rows = *job * rows..*job * rows + out.len() / line;
                    self.run_rows(rows, input, residual, out, self.cut(scratch));
                });
            }
            Split::Channels { of_each } => {
                let part_bytes = self.out_pixels() * of_each;
                let shared = &mut shared[..self.channels().div_ceil(of_each) * part_bytes];
                let parts = shared.chunks_mut(part_bytes).zip(jobs).enumerate();
                pool.share(parts, &|(job, (out, scratch))| {
                    let first = *job * of_each;
                    let count = of_each.min(self.channels() - first);
                    self.filter_part(Part { first, count }, input, out, self.cut(scratch));
                });
                let shared = &*shared;
                let pixels = pool.rows_per_job(self.out_pixels(), self.project.kernel.tile.mr);
                let jobs = scratch.chunks_mut(self.job_scratch());
                let jobs = out.chunks_mut(pixels * channels).zip(jobs).enumerate();
                pool.share(jobs, &|(job, (out, scratch))| {
                    self.project_pixels(
                        *job * pixels,
                        shared,
                        of_each,
                        residual,
                        out,
                        self.cut(scratch),
                    );
                });
            }
        }
    }

    /// Rows of the output, a strip after the other.
    fn run_rows(
        &self,
        rows: Range<usize>,
        input: &[i8],
        residual: Option<&[i8]>,
        out: &mut [i8],
        mut work: Work<'_>,
    ) {
        let g = &self.depthwise.geometry;
        let line = g.out[1] * self.project.channels();
        let whole = Part {
            first: 0,
            count: self.channels(),
        };
        let mut made = 0;
        for (strip, out) in out.chunks_mut(self.schedule.strip * line).enumerate() {
            let first = rows.start + strip * self.schedule.strip;
            let strip = first..first + out.len() / line;
            made = self.expand_strip(&strip, made, whole, input, &mut work);
            self.filter_strip(&strip, whole, input, work.ring, work.padding, work.filtered);
            let residual = residual.map(|residual| &residual[first * line..][..out.len()]);
            self.project_filtered(&*work.filtered, residual, out, work.projected, work.conv);
        }
    }

    /// Makes the expanded rows that a strip of output rows reads, from row `made` on; returns the end.
    fn expand_strip(
        &self,
        strip: &Range<usize>,
        made: usize,
        part: Part,
        input: &[i8],
        work: &mut Work<'_>,
    ) -> usize {
        let Some(expand) = &self.expand else {
            return 0;
        };
        let needed = self.source_rows(strip);
        let (width, ring_rows) = (self.depthwise.geometry.input[1], self.ring_rows());
        let nr = expand.weights.tile().nr;
        let blocks = part.first / nr..(part.first + part.count).div_ceil(nr);
        let mut row = made.max(needed.start);
        while row < needed.end {
            let slot = row % ring_rows;
            let end = needed.end.min(row + ring_rows - slot);
            let target = Target {
                out: &mut work.ring[slot * width * part.count..],
                stride: part.count,
            };
            expand.run_pixels(
                row * width..end * width,
                blocks.clone(),
                input,
                target,
                work.conv,
            );
            row = end;
        }
        row
    }

    /// Rows of the expanded tensor that a strip of output rows reads.
    fn source_rows(&self, strip: &Range<usize>) -> Range<usize> {
        let g = &self.depthwise.geometry;
        let start = (strip.start * g.stride[0]).saturating_sub(g.padding[0]);
        let end = ((strip.end - 1) * g.stride[0] + g.reach()).saturating_sub(g.padding[0]);
        start.min(g.input[0])..end.min(g.input[0])
    }

    /// The depthwise convolution of a strip of output rows, into `out`, pixel after pixel.
    fn filter_strip(
        &self,
        strip: &Range<usize>,
        part: Part,
        input: &[i8],
        ring: &[i8],
        padding: &[i8],
        out: &mut [i8],
    ) {
        let g = &self.depthwise.geometry;
        let input_stride = match self.expand {
            Some(_) => part.count,
            None => self.channels(),
        };
        let range = ChannelRange {
            first: part.first,
            count: part.count,
            input_stride,
            out_stride: part.count,
        };
        let elements = g.input[1] * input_stride;
        let read = |row: usize| match self.expand {
            Some(_) => &ring[row % self.ring_rows() * elements..][..elements],
            None => &input[row * elements..][..elements][part.first..],
        };
        let line = g.out[1] * part.count;
        for (y, out) in strip.clone().zip(out.chunks_exact_mut(line)) {
            self.depthwise.run_row(y, range, read, padding, out);
        }
    }

    /// The projection of as many filtered pixels as `out` is long, and the addition.
    fn project_filtered(
        &self,
        filtered: &[i8],
        residual: Option<&[i8]>,
        out: &mut [i8],
        projected: &mut [i8],
        conv: &mut [i8],
    ) {
        let stride = self.project.channels();
        let (pixels, blocks) = (0..out.len() / stride, self.project.all_blocks());
        match (&self.residual, residual) {
            (Some(addition), Some(residual)) => {
                let projected = &mut projected[..out.len()];
                let target = Target {
                    out: projected,
                    stride,
                };
                self.project
                    .run_pixels(pixels, blocks, filtered, target, conv);
                let (a, b) = match addition.projection_is_first {
                    true => (&*projected, residual),
                    false => (residual, &*projected),
                };
                (addition.add)(&addition.params, a, b, out);
            }
            _ => {
                let target = Target { out, stride };
                self.project
                    .run_pixels(pixels, blocks, filtered, target, conv);
            }
        }
    }

    /// Some channels of the whole filtered tensor.
    fn filter_part(&self, part: Part, input: &[i8], out: &mut [i8], mut work: Work<'_>) {
        let rows = self.depthwise.geometry.out[0];
        let line = self.depthwise.geometry.out[1] * part.count;
        let mut made = 0;
        for first in (0..rows).step_by(self.schedule.strip) {
            let strip = first..(first + self.schedule.strip).min(rows);
            made = self.expand_strip(&strip, made, part, input, &mut work);
            let out = &mut out[first * line..];
            self.filter_strip(&strip, part, input, work.ring, work.padding, out);
        }
    }

    /// Output pixels from `first` on, from a filtered tensor in parts of `of_each` channels.
    fn project_pixels(
        &self,
        first: usize,
        parts: &[i8],
        of_each: usize,
        residual: Option<&[i8]>,
        out: &mut [i8],
        work: Work<'_>,
    ) {
        let (middle, channels) = (self.channels(), self.project.channels());
        let panel = self.projected_pixels();
        for (at, out) in out.chunks_mut(panel * channels).enumerate() {
            let first = first + at * panel;
            let pixels = out.len() / channels;
            for (index, part) in parts.chunks(self.out_pixels() * of_each).enumerate() {
                let start = index * of_each;
                let count = of_each.min(middle - start);
                let codes = part[first * count..].chunks_exact(count);
                let gathered = work.filtered.chunks_exact_mut(middle).take(pixels);
                for (codes, pixel) in codes.zip(gathered) {
                    pixel[start..start + count].copy_from_slice(codes);
                }
            }
            let residual = residual.map(|residual| &residual[first * channels..][..out.len()]);
            self.project_filtered(&*work.filtered, residual, out, work.projected, work.conv);
        }
    }

    /// Bytes of all packed weights.
    pub fn weight_bytes(&self) -> usize {
        let expand = self.expand.as_ref().map_or(0, |conv| conv.weights.bytes());
        expand + self.depthwise.weights.bytes() + self.project.weights.bytes()
    }

    /// The layers in words.
    pub fn kernel_names(&self) -> String {
        let strip = match self.schedule.split {
            Split::Rows => format!("{} rows", self.schedule.strip),
            Split::Channels { of_each } => format!("{of_each} channels"),
        };
        let expand = self.expand.as_ref().map(|conv| conv.kernel.name);
        let names = expand
            .into_iter()
            .chain([self.depthwise.kernel.name, self.project.kernel.name]);
        format!("{} ({strip})", names.collect::<Vec<_>>().join(" > "))
    }
}

/// Channels that the expansion makes at a time.
fn expand_granule(expand: Option<&Conv>) -> usize {
    expand.map_or(1, |conv| conv.kernel.tile.nr)
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
