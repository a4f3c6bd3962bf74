//! The integer plan as an engine.

use std::time::Duration;

use super::{Engine, Options, StepInfo};
use crate::error::Result;
use crate::graph::Graph;
use crate::kernels::Kernels;
use crate::plan::{Arena, CompileOptions, Plan, Pool};
use crate::tensor::{TensorData, TensorInfo, TensorView};

/// A compiled plan with its memory and its threads.
pub(super) struct IntegerEngine {
    plan: Plan,
    arena: Arena,
    pool: Pool,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

impl IntegerEngine {
    /// Compiles a graph of 8-bit codes.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an operator without a kernel.
    pub fn new(graph: &Graph, model: &str, options: Options) -> Result<Self> {
        let kernels = Kernels::best(options.isa)?;
        let pool = Pool::new(options.threads)?;
        let compile = CompileOptions {
            threads: pool.threads(),
            keep_intermediates: options.keep_intermediates,
        };
        let plan = Plan::compile(graph, model, &kernels, compile)?;
        Ok(Self {
            arena: plan.arena(),
            inputs: plan.inputs().cloned().collect(),
            outputs: plan.outputs().cloned().collect(),
            pool,
            plan,
        })
    }
}

impl Engine for IntegerEngine {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    fn set_input(&mut self, index: usize, data: TensorView<'_>) -> Result<()> {
        super::check_input(&self.inputs, index, data)?;
        self.plan.set_input(&mut self.arena, index, data);
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        self.plan.run(&mut self.arena, &self.pool);
        Ok(())
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        self.plan.output(&self.arena, index)
    }

    fn intermediates(&self) -> Vec<(TensorInfo, TensorData)> {
        self.plan.intermediates(&self.arena)
    }

    fn steps(&self) -> Vec<StepInfo> {
        let describe = |step: crate::plan::StepSummary| StepInfo {
            index: step.index,
            op: step.op.to_owned(),
            output: step.output.name,
            shape: step.output.shape,
            kernel: step.kernel.to_owned(),
            macs: step.macs,
        };
        self.plan.steps().map(describe).collect()
    }

    fn run_profiled(&mut self) -> Result<Vec<Duration>> {
        Ok(self.plan.run_profiled(&mut self.arena, &self.pool))
    }

    fn summary(&self) -> String {
        format!(
            "integer plan, {} kernels, {} thread{}, arena {} KiB, weights {} KiB",
            self.plan.kernels().isa,
            self.pool.threads(),
            if self.pool.threads() == 1 { "" } else { "s" },
            self.plan.arena_bytes() / 1024,
            self.plan.packed_bytes() / 1024,
        )
    }
}
