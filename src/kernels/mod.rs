//! Integer arithmetic: one table of functions per instruction set.
//!
//! [`scalar`] is the reference: every other variant equals it bit for bit ([`check`]). A table is chosen once, at
//! start, by [`Kernels::best`]. Kernels know no graph, no file and no thread.

pub mod check;
pub mod fused;
pub mod pack;
pub mod requant;
pub mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dot;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use pack::{PackedWeights, Tile};
use requant::OutputStage;

pub mod postprocess;

/// An instruction set that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust.
    Scalar,
    /// Armv8.0: Cortex-A53, A72.
    Neon,
    /// Armv8.2 with the dot-product instructions: Cortex-A76.
    NeonDot,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 and its dot-product instructions.
    Avx512Vnni,
}

impl Isa {
    /// Every instruction set, the plainest first.
    pub const ALL: [Self; 5] = [
        Self::Scalar,
        Self::Neon,
        Self::NeonDot,
        Self::Avx2,
        Self::Avx512Vnni,
    ];

    /// Whether there are kernels for it and this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 => false,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(not(target_arch = "aarch64"))]
            Self::NeonDot => false,
            Self::Avx512Vnni => false,
        }
    }

    /// The name that `EYAS_ISA` and `--isa` take.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::NeonDot => "neon_dot",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512_vnni",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|isa| isa.name()).collect();
                Error::Usage(format!(
                    "unknown instruction set {text:?}: use one of {}",
                    names.join(", ")
                ))
            })
    }
}

/// One matrix product: of `sum_k a[m][k] * w[n][k]`, in wrapping int32, comes what [`Output`] says.
pub struct Gemm<'a> {
    /// Rows, `a_stride` apart; [`GEMM_OVERREAD`] readable bytes follow the last one's depth.
    pub a: &'a [i8],
    pub a_stride: usize,
    pub rows: usize,
    pub weights: &'a PackedWeights,
    pub out: Output<'a>,
    /// From one row of the output to the next, in elements.
    pub out_stride: usize,
    /// [`GemmKernel::scratch_bytes`] long.
    pub scratch: &'a mut [i8],
}

/// What a matrix product writes: rows of `weights.channels()` elements.
pub enum Output<'a> {
    /// `stage(bias[n] + sum + row_terms[m])`
    Codes {
        out: &'a mut [i8],
        /// As long as there are rows, or empty: no terms.
        row_terms: &'a [i32],
        stage: OutputStage,
    },
    /// The bare sums: bias and scales of the weights are not read.
    Sums(&'a mut [i32]),
}

/// Bytes that a GEMM kernel may read behind the last row of `a`; what they hold does not matter.
pub const GEMM_OVERREAD: usize = 16;

impl Gemm<'_> {
    /// Asserts every length that the kernels rely on.
    fn assert_lengths(&self, kernel: &GemmKernel) {
        let depth = self.weights.depth();
        assert!(self.rows > 0 && depth > 0);
        assert_eq!(self.weights.tile(), kernel.tile);
        assert!(self.a.len() >= (self.rows - 1) * self.a_stride + depth + GEMM_OVERREAD);
        let needed = (self.rows - 1) * self.out_stride + self.weights.channels();
        match &self.out {
            Output::Codes { out, row_terms, .. } => {
                assert!(out.len() >= needed);
                assert!(row_terms.is_empty() || row_terms.len() == self.rows);
            }
            Output::Sums(sums) => assert!(sums.len() >= needed),
        }
        assert!(self.scratch.len() >= kernel.scratch_bytes(depth));
        assert!(!(kernel.needs_no_minimum && self.weights.has_minimum()));
    }
}

/// A GEMM variant with the packing it reads.
#[derive(Clone, Copy)]
pub struct GemmKernel {
    pub name: &'static str,
    pub tile: Tile,
    /// Scratch bytes for each element of the depth, rounded up to 16 elements.
    scratch_per_depth: usize,
    /// Sums two products in int16, so no weight may be -128.
    needs_no_minimum: bool,
    run: fn(Gemm<'_>),
}

impl GemmKernel {
    /// Bytes of scratch that a product of this depth needs.
    pub fn scratch_bytes(&self, depth: usize) -> usize {
        self.scratch_per_depth * depth.next_multiple_of(16)
    }

    /// Runs the product.
    ///
    /// # Panics
    /// If a length contradicts the contract of [`Gemm`].
    pub fn run(&self, gemm: Gemm<'_>) {
        gemm.assert_lengths(self);
        (self.run)(gemm);
    }
}

/// One row of a depthwise convolution's result, channel multiplier 1:
/// `out[x][c] = stage(bias[c] + sum_ij rows[i][x * stride + j * dilation][c] * w[i][j][c])`, sums in wrapping int32.
pub struct Depthwise<'a> {
    /// One padded input row for each kernel row, each `[pixels][channels]`.
    pub rows: &'a [&'a [i8]],
    pub weights: &'a DepthwiseWeights,
    pub stride: usize,
    pub dilation: usize,
    pub stage: OutputStage,
    /// `[pixels][channels]`.
    pub out: &'a mut [i8],
}

/// Weights of a depthwise convolution with both zero points folded.
#[derive(Clone, Debug)]
pub struct DepthwiseWeights {
    pub kernel: [usize; 2],
    pub channels: usize,
    /// `[kernel rows][kernel columns][channels]`, less their zero point: `-255..=255`.
    pub taps: Vec<i16>,
    /// `bias - za * sum taps`.
    pub bias: Vec<i32>,
    pub scales: Vec<f32>,
}

impl Depthwise<'_> {
    fn assert_lengths(&self) {
        let weights = self.weights;
        let channels = weights.channels;
        assert!(channels > 0 && self.stride > 0 && self.dilation > 0);
        assert_eq!(self.rows.len(), weights.kernel[0]);
        assert_eq!(self.out.len() % channels, 0);
        let pixels = self.out.len() / channels;
        assert!(pixels > 0);
        let reach = (pixels - 1) * self.stride + (weights.kernel[1] - 1) * self.dilation + 1;
        assert!(self.rows.iter().all(|row| row.len() >= reach * channels));
        assert_eq!(
            weights.taps.len(),
            weights.kernel[0] * weights.kernel[1] * channels
        );
        assert!(weights.bias.len() == channels && weights.scales.len() == channels);
    }
}

/// A depthwise variant.
#[derive(Clone, Copy)]
pub struct DepthwiseKernel {
    pub name: &'static str,
    run: fn(Depthwise<'_>),
}

impl DepthwiseKernel {
    /// Runs one row.
    ///
    /// # Panics
    /// If a length contradicts the contract of [`Depthwise`].
    pub fn run(&self, row: Depthwise<'_>) {
        row.assert_lengths();
        (self.run)(row);
    }
}

/// The kernels of one instruction set. What a set has no variant for, the scalar reference does.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub isa: Isa,
    /// Preferred first. One that cannot run certain weights is skipped by [`Kernels::gemm_for`].
    gemms: &'static [GemmKernel],
    pub depthwise: DepthwiseKernel,
}

impl Kernels {
    /// The table of an instruction set, `None` if the CPU lacks it.
    pub fn of(isa: Isa) -> Option<Self> {
        isa.is_available().then_some(match isa {
            Isa::Scalar => Self {
                isa,
                gemms: &scalar::GEMMS,
                depthwise: scalar::DEPTHWISE,
            },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self {
                isa,
                gemms: &neon::GEMMS,
                depthwise: neon::DEPTHWISE,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                isa,
                gemms: &avx2::GEMMS,
                depthwise: avx2::DEPTHWISE,
            },
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => Self {
                isa,
                gemms: &neon_dot::GEMMS,
                depthwise: neon::DEPTHWISE,
            },
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon | Isa::NeonDot => return None,
            Isa::Avx512Vnni => return None,
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 => return None,
        })
    }

    /// The best table for this CPU that is not above `limit`; without a limit, `EYAS_ISA` is one.
    ///
    /// # Errors
    /// [`Error::Usage`] if `EYAS_ISA` names no instruction set.
    pub fn best(limit: Option<Isa>) -> Result<Self> {
        let limit = match (limit, std::env::var("EYAS_ISA")) {
            (None, Ok(name)) if !name.is_empty() => Some(name.parse()?),
            (limit, _) => limit,
        };
        let best = Isa::ALL
            .into_iter()
            .rev()
            .filter(|&isa| limit.is_none_or(|limit| isa <= limit))
            .find_map(Self::of);
        best.ok_or_else(|| Error::Internal("the scalar kernels are always there".into()))
    }

    /// The preferred GEMM for these weights: a kernel that sums two products in int16 is passed over if a weight is
    /// -128.
    pub fn gemm_for(&self, weights: &[i8]) -> &'static GemmKernel {
        let has_minimum = weights.contains(&i8::MIN);
        self.gemms
            .iter()
            .find(|kernel| !(has_minimum && kernel.needs_no_minimum))
            .unwrap_or(&scalar::GEMMS[0])
    }

    /// Every GEMM of the table, for the checker and the benchmarks.
    pub fn gemms(&self) -> &'static [GemmKernel] {
        self.gemms
    }
}
