//! Integer arithmetic: one table of functions per instruction set.
//!
//! [`scalar`] is the reference: every other variant equals it bit for bit ([`check`]). A table is chosen once, at
//! start, by [`Kernels::best`]. Kernels know no graph, no file and no thread.

pub mod check;
pub mod depthwise;
pub mod elementwise;
pub mod fused;
pub mod gemm;
pub mod pack;
pub mod requant;
pub mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dot;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use pack::WeightsSource;

pub use depthwise::{Depthwise, DepthwiseKernel, DepthwiseWeights};
pub use elementwise::Elementwise;
pub use gemm::{GEMM_OVERREAD, Gemm, GemmKernel, Output};

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
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => avx512_vnni::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
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

/// The kernels of one instruction set. What a set has no variant for, the scalar reference does.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub isa: Isa,
    /// Preferred first. One that cannot run certain weights is skipped by [`Kernels::gemm_for`].
    gemms: &'static [GemmKernel],
    pub depthwise: DepthwiseKernel,
    pub elementwise: Elementwise,
}

impl Kernels {
    /// The table of an instruction set, `None` if the CPU lacks it.
    pub fn of(isa: Isa) -> Option<Self> {
        isa.is_available().then_some(match isa {
            Isa::Scalar => Self {
                isa,
                gemms: &scalar::GEMMS,
                depthwise: scalar::DEPTHWISE,
                elementwise: elementwise::BASELINE,
            },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self {
                isa,
                gemms: &neon::GEMMS,
                depthwise: neon::DEPTHWISE,
                elementwise: elementwise::BASELINE,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                isa,
                gemms: &avx2::GEMMS,
                depthwise: avx2::DEPTHWISE,
                elementwise: elementwise::AVX2,
            },
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => Self {
                isa,
                gemms: &neon_dot::GEMMS,
                depthwise: neon_dot::DEPTHWISE,
                elementwise: neon_dot::ELEMENTWISE,
            },
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon | Isa::NeonDot => return None,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Self {
                isa,
                gemms: &avx512_vnni::GEMMS,
                depthwise: avx512_vnni::DEPTHWISE,
                elementwise: elementwise::AVX512,
            },
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512Vnni => return None,
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

    /// The preferred GEMM for these weights: a kernel that sums two products in int16 is passed over if a packed
    /// weight is -128.
    pub fn gemm_for(&self, weights: &WeightsSource<'_>) -> &'static GemmKernel {
        self.gemms
            .iter()
            .find(|kernel| !(kernel.needs_no_minimum && weights.has_minimum(kernel.tile.nr)))
            .unwrap_or(&scalar::GEMMS[0])
    }

    /// Every GEMM of the table, for the checker and the benchmarks.
    pub fn gemms(&self) -> &'static [GemmKernel] {
        self.gemms
    }
}
