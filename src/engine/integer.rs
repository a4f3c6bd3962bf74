//! The integer plan as an engine.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Options, StepInfo};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels::Kernels;
use crate::plan::{Arena, CompileOptions, Plan, Pool, Resident};
use crate::tensor::{TensorData, TensorInfo, TensorView};

/// A compiled plan with its memory and its threads.
pub(super) struct IntegerEngine {
    plan: Arc<Plan>,
    pool: Arc<Pool>,
    run: Run,
    runner: Resident<Run>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

/// What a run works on.
#[derive(Default)]
struct Run {
    arena: Arena,
    /// Whether to measure each step, into `times`.
    is_profiled: bool,
    times: Vec<Duration>,
}

impl IntegerEngine {
    /// Compiles a graph of 8-bit codes.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an operator without a kernel.
    pub fn new(graph: &Graph, model: &str, options: Options) -> Result<Self> {
        let kernels = Kernels::best(options.isa)?;
        let pool = Arc::new(Pool::new(options.threads)?);
        let compile = CompileOptions {
            threads: pool.threads(),
            keep_intermediates: options.keep_intermediates,
        };
        let plan = Arc::new(Plan::compile(graph, model, &kernels, compile)?);
        let running = Arc::clone(&plan);
        let runner = pool.resident(move |run: &mut Run, pool| match run.is_profiled {
            true => run.times = running.run_profiled(&mut run.arena, pool),
            false => running.run(&mut run.arena, pool),
        });
        Ok(Self {
            run: Run {
                arena: plan.arena(),
                ..Run::default()
            },
            runner,
            inputs: plan.inputs().cloned().collect(),
            outputs: plan.outputs().cloned().collect(),
            pool,
            plan,
        })
    }

    fn execute(&mut self, is_profiled: bool) -> Result<()> {
        self.run.is_profiled = is_profiled;
        match self.runner.run(take(&mut self.run)) {
            Some(run) => {
                self.run = run;
                Ok(())
            }
            None => {
                self.run.arena = self.plan.arena();
                Err(Error::Internal("a thread of the inference panicked".into()))
            }
        }
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
        self.plan.set_input(&mut self.run.arena, index, data);
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        self.execute(false)
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        self.plan.output(&self.run.arena, index)
    }

    fn intermediates(&self) -> Vec<(TensorInfo, TensorData)> {
        self.plan.intermediates(&self.run.arena)
    }

    fn steps(&self) -> Vec<StepInfo> {
        let describe = |step: crate::plan::StepSummary| StepInfo {
            index: step.index,
            op: step.op,
            output: step.output.name,
            shape: step.output.shape,
            kernel: step.kernel,
            macs: step.macs,
            bytes: step.bytes,
        };
        self.plan.steps().map(describe).collect()
    }

    fn run_profiled(&mut self) -> Result<Vec<Duration>> {
        self.execute(true)?;
        Ok(take(&mut self.run.times))
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
