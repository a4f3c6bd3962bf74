//! The reference: the one written rule of each operator, in plain Rust that the compiler vectorizes.

mod conv;
mod copy;
pub mod dynamic;
mod elementwise;
mod fixed_point;
pub mod float;
mod pool;
mod resize;
mod softmax;

pub use conv::{DEPTHWISE, GEMMS};
pub use copy::{MAX_RANK, StridedCopy};
pub use elementwise::{
    AddParams, MulParams, add, apply_table, arg_max, dequantize, mul, quantize, row_maxima, table,
};
pub use fixed_point::{QuantizedMultiplier, hard_swish};
pub use float::Bounds;
pub use pool::{MeanParams, Pool, average_pool, max_pool, mean_rows};
pub use resize::{BilinearAxis, resize_bilinear, resize_nearest};
pub use softmax::SoftmaxTable;
