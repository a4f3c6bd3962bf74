//! One block of memory for every value, and where each value lies in it.

use std::ops::Range;

use super::step::Step;
use crate::kernels::GEMM_OVERREAD;
use crate::kernels::postprocess::PostProcessScratch;

const LINE: usize = 64;

#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([i8; LINE]);

/// The memory of one running plan.
#[derive(Default)]
pub struct Arena {
    lines: Vec<Line>,
    /// One for each step of detection post-processing, in order.
    pub(super) post_process: Vec<PostProcessScratch>,
}

impl Arena {
    pub(super) fn new(bytes: usize, steps: &[Step]) -> Self {
        Self {
            lines: vec![Line([0; LINE]); bytes.div_ceil(LINE)],
            post_process: steps
                .iter()
                .filter_map(Step::post_process_scratch)
                .collect(),
        }
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[i8] {
        bytemuck::cast_slice(&self.lines)
    }

    /// All bytes.
    pub(super) fn bytes_mut(&mut self) -> &mut [i8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// All bytes, and the state of post-processing beside them.
    pub(super) fn parts(&mut self) -> (&mut [i8], &mut [PostProcessScratch]) {
        (
            bytemuck::cast_slice_mut(&mut self.lines),
            &mut self.post_process,
        )
    }
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub offset: usize,
    pub bytes: usize,
}

impl Slot {
    /// Exactly the value.
    pub fn range(self) -> Range<usize> {
        self.offset..self.offset + self.bytes
    }

    /// The value and the bytes behind it that a kernel may read: they belong to the same allocation.
    pub fn readable(self) -> Range<usize> {
        self.offset..self.offset + self.bytes + GEMM_OVERREAD
    }
}

/// A piece of memory that is in use from one step to another, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Gives each piece an offset, such that pieces in use at the same time do not overlap; returns the offsets and the
/// bytes needed in all. The largest are placed first, each as low as it fits.
pub(super) fn place(pieces: &[Lifetime]) -> (Vec<usize>, usize) {
    let size = |bytes: usize| (bytes + GEMM_OVERREAD).next_multiple_of(LINE);
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(pieces[at].bytes), at));
    let mut offsets = vec![0; pieces.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(pieces.len());
    let mut total = 0;
    for at in order {
        let piece = pieces[at];
        let mut taken: Vec<Range<usize>> = placed
            .iter()
            .filter(|&&other| {
                pieces[other].first <= piece.last && piece.first <= pieces[other].last
            })
            .map(|&other| offsets[other]..offsets[other] + size(pieces[other].bytes))
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut offset = 0;
        for range in taken {
            if range.start >= offset + size(piece.bytes) {
                break;
            }
            offset = offset.max(range.end);
        }
        offsets[at] = offset;
        total = total.max(offset + size(piece.bytes));
        placed.push(at);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_alive_together_lie_apart_and_others_share() {
        let piece = |bytes, first, last| Lifetime { bytes, first, last };
        let pieces = [
            piece(100, 0, 1),
            piece(1000, 1, 2),
            piece(100, 2, 3),
            piece(900, 3, 4),
        ];
        let (offsets, total) = place(&pieces);
        assert_eq!(offsets[1], 0);
        assert_eq!(offsets[3], 0);
        let largest = (1000 + GEMM_OVERREAD).next_multiple_of(LINE);
        assert_eq!(offsets[0], largest);
        assert_eq!(offsets[2], largest);
        assert_eq!(
            total,
            largest + (100 + GEMM_OVERREAD).next_multiple_of(LINE)
        );
        for (a, x) in pieces.iter().enumerate() {
            for (b, y) in pieces.iter().enumerate().skip(a + 1) {
                let together = x.first <= y.last && y.first <= x.last;
                let apart =
                    offsets[a] + x.bytes <= offsets[b] || offsets[b] + y.bytes <= offsets[a];
                assert!(!together || apart, "{a} {b}");
            }
        }
    }
}
