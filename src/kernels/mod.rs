//! Integer arithmetic: one table of functions per instruction set.

pub mod postprocess;

/// An instruction set that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    Scalar,
    Neon,
    NeonDot,
    Avx2,
    Avx512Vnni,
}
