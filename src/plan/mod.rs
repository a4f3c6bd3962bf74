//! A graph and kernels become a [`Plan`]: every decision made, every size known, one arena.
//!
//! [`Plan::compile`] does all checking. [`Plan::run`] cannot fail and does not allocate.

mod arena;
mod block;
mod conv;
mod float;
mod geometry;
mod hybrid;
mod lower;
mod movement;
mod pool;
mod post_process;
mod step;
#[cfg(test)]
mod tests;

pub use arena::Arena;
pub use pool::{MAX_THREADS, Pool, Resident};

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::Kernels;
use crate::tensor::{DType, TensorData, TensorInfo, TensorView};
use arena::Slot;
use step::Step;

/// A value that can be read or written from outside.
#[derive(Clone, Debug)]
struct Port {
    info: TensorInfo,
    slot: Slot,
}

/// A compiled model.
pub struct Plan {
    steps: Vec<Step>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Values that nodes make, in order. All readable after a run only if compiled to keep them.
    intermediates: Vec<Port>,
    /// Constants that steps read from the arena.
    preloaded: Vec<(Slot, Vec<i8>)>,
    arena_bytes: usize,
    packed_bytes: usize,
    kernels: Kernels,
}

/// How to compile.
#[derive(Clone, Copy, Debug)]
pub struct CompileOptions {
    /// Threads that will run the plan, in `1..=MAX_THREADS`: each has scratch of its own.
    pub threads: usize,
    /// Give every intermediate value memory of its own.
    pub keep_intermediates: bool,
}

/// A step in words.
#[derive(Clone, Debug)]
pub struct StepSummary {
    /// Position of the operator in the model file.
    pub index: usize,
    pub op: String,
    pub output: TensorInfo,
    pub kernel: String,
    pub macs: u64,
    /// Bytes of its inputs, outputs and weights.
    pub bytes: u64,
}

impl Plan {
    /// Decides everything about running `graph`, a graph that [`Graph::validate`] accepted.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] with the operator's name and index if a step has no kernel.
    pub fn compile(
        graph: &Graph,
        model: &str,
        kernels: &Kernels,
        options: CompileOptions,
    ) -> Result<Self> {
        lower::compile(graph, model, kernels, options)
    }

    /// Memory for runs of this plan.
    pub fn arena(&self) -> Arena {
        let mut arena = Arena::new(self.arena_bytes, &self.steps);
        for (slot, bytes) in &self.preloaded {
            arena.bytes_mut()[slot.range()].copy_from_slice(bytes);
        }
        arena
    }

    /// Inputs in the model's order, with the element types of the file.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.inputs.iter().map(|port| &port.info)
    }

    /// Outputs in the model's order, with the element types of the file.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.outputs.iter().map(|port| &port.info)
    }

    /// Copies an input in, uint8 codes shifted by 128.
    ///
    /// # Panics
    /// If there is no such input, or the element type or count differs from its [`TensorInfo`].
    pub fn set_input(&self, arena: &mut Arena, index: usize, data: TensorView<'_>) {
        let port = &self.inputs[index];
        assert_eq!(data.dtype(), port.info.dtype);
        assert_eq!(data.len(), port.info.shape.elements());
        let bytes = &mut arena.bytes_mut()[port.slot.range()];
        match data {
            TensorView::U8(codes) => step::flip_sign(bytemuck::cast_slice(codes), bytes),
            _ => bytes.copy_from_slice(bytemuck::cast_slice(data.bytes())),
        }
    }

    /// Computes the outputs from the inputs. Does not allocate on a thread of the pool ([`Pool::resident`]); from another
    /// thread, entering a pool of several threads may.
    pub fn run(&self, arena: &mut Arena, pool: &Pool) {
        pool.enter(|| {
            for step in &self.steps {
                step.run(arena, pool, &self.kernels.elementwise);
            }
        });
    }

    /// As [`Plan::run`], and the time of each step.
    pub fn run_profiled(&self, arena: &mut Arena, pool: &Pool) -> Vec<Duration> {
        pool.enter(|| {
            let time = |step: &Step| {
                let start = Instant::now();
                step.run(arena, pool, &self.kernels.elementwise);
                start.elapsed()
            };
            self.steps.iter().map(time).collect()
        })
    }

    /// An output of the last run, in the element type of the file.
    ///
    /// # Panics
    /// If there is no such output.
    pub fn output<'a>(&self, arena: &'a Arena, index: usize) -> TensorView<'a> {
        let port = &self.outputs[index];
        let bytes = &arena.bytes()[port.slot.range()];
        match port.info.dtype {
            DType::U8 => TensorView::U8(bytemuck::cast_slice(bytes)),
            DType::I8 => TensorView::I8(bytes),
            DType::I32 => TensorView::I32(bytemuck::cast_slice(bytes)),
            DType::F32 => TensorView::F32(bytemuck::cast_slice(bytes)),
        }
    }

    /// Copies of the values that nodes made in the last run, in the element types of the file.
    pub fn intermediates(&self, arena: &Arena) -> Vec<(TensorInfo, TensorData)> {
        let read = |port: &Port| {
            let bytes = &arena.bytes()[port.slot.range()];
            let data = match port.info.dtype {
                DType::U8 => TensorData::U8(bytes.iter().map(|&code| code as u8 ^ 0x80).collect()),
                DType::I8 => TensorData::I8(bytes.to_vec()),
                DType::I32 => TensorData::I32(bytemuck::cast_slice(bytes).to_vec()),
                DType::F32 => TensorData::F32(bytemuck::cast_slice(bytes).to_vec()),
            };
            (port.info.clone(), data)
        };
        self.intermediates.iter().map(read).collect()
    }

    /// The steps in order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepSummary> {
        self.steps.iter().map(|step| StepSummary {
            index: step.index,
            op: step.op.clone(),
            output: step.output.clone(),
            kernel: step.kernel_name(&self.kernels.elementwise),
            macs: step.macs,
            bytes: step.bytes_moved(),
        })
    }

    /// Bytes of the arena that all values share.
    pub fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    /// Bytes of packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// The kernels that it was compiled for.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }
}
