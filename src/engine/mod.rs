//! What runs a model: the integer plan, or tract for models that are wholly float.

#[cfg(feature = "tract")]
mod float;

use crate::error::Result;
use crate::model::{Model, Program};
use crate::tensor::{TensorData, TensorInfo, TensorView};

/// A loaded model, ready to run again and again on inputs of fixed shapes.
pub trait Engine: Send {
    /// Inputs in the model's own order, with the element types of the file.
    fn inputs(&self) -> &[TensorInfo];

    /// Outputs in the model's own order, with the element types of the file.
    fn outputs(&self) -> &[TensorInfo];

    /// Copies one input in. An error if the index, the element type or the number of elements does not fit.
    fn set_input(&mut self, index: usize, data: TensorView<'_>) -> Result<()>;

    /// Computes the outputs from the inputs last set.
    fn run(&mut self) -> Result<()>;

    /// One output of the last run.
    ///
    /// # Panics
    /// If `index` is not below the number of outputs.
    fn output(&self, index: usize) -> TensorView<'_>;

    /// Every value that a node made in the last run, in the order they were made. Complete only if the engine was
    /// loaded with [`Options::keep_intermediates`].
    fn intermediates(&self) -> Vec<(TensorInfo, TensorData)>;

    /// What runs, in words for `inspect` and `bench --layers`: one row a step, in the order of execution.
    fn steps(&self) -> Vec<StepInfo>;

    /// Runs once and measures each step, in the order of [`Engine::steps`].
    fn run_profiled(&mut self) -> Result<Vec<std::time::Duration>>;

    /// One line: the engine's name and what it chose (instruction set, threads, bytes of its arena).
    fn summary(&self) -> String;
}

/// One step of an engine.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// Position of the operator in the model file.
    pub index: usize,
    /// The operator's name: `CONV_2D`.
    pub op: String,
    /// Name of the value it makes.
    pub output: String,
    /// Shape of that value.
    pub shape: crate::tensor::Shape,
    /// The kernel that runs it: `i8_gemm_4x8_neon`.
    pub kernel: String,
    /// Multiply-accumulate operations.
    pub macs: u64,
}

/// How to load an engine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that one inference may use, at least 1.
    pub threads: usize,
    /// The instruction set to use at most; `None`: the best the CPU has, or what `EYAS_ISA` says.
    pub isa: Option<crate::kernels::Isa>,
    /// Keep every intermediate value readable after a run, at the price of memory and fusion.
    pub keep_intermediates: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            isa: None,
            keep_intermediates: false,
        }
    }
}

/// Makes the engine that fits the model.
pub fn load(model: &Model, options: Options) -> Result<Box<dyn Engine>> {
    match &model.program {
        #[cfg(feature = "tract")]
        Program::Graph(graph) if graph.is_float() => {
            let keep = options.keep_intermediates;
            let engine = float::FloatEngine::from_graph(graph, &model.name, keep)?;
            Ok(Box::new(engine))
        }
        #[cfg(feature = "tract")]
        Program::Onnx(bytes) => Ok(Box::new(float::FloatEngine::from_onnx(bytes, &model.name)?)),
        _ => Err(crate::Error::Internal("no engine".into())),
    }
}
