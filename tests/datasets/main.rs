//! The real binary on labelled pictures: `eval`, `dataset` and `collect`.

mod collect;
mod convert;
mod eval;
mod hostile;
mod program;
