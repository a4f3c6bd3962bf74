//! What runs a model: the plan, or tract for models that are wholly float.

#[cfg(feature = "tract")]
mod float;
mod integer;

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
    /// Bytes that it moves at least: its inputs, its output and its weights, each once. 0 if not known.
    pub bytes: u64,
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

/// Makes the engine that fits the model: tract if it is wholly float, else the plan. A model whose only 8-bit values
/// are weights, with an operator that the plan lacks, runs in tract with float weights.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for an operator that the engine lacks.
pub fn load(model: &Model, options: Options) -> Result<Box<dyn Engine>> {
    match &model.program {
        Program::Graph(graph) if !graph.is_float() => {
            match integer::IntegerEngine::new(graph, &model.name, options) {
                Ok(engine) => Ok(Box::new(engine)),
                Err(error) => load_dequantized(graph, &model.name, options, error),
            }
        }
        #[cfg(feature = "tract")]
        Program::Graph(graph) => {
            let keep = options.keep_intermediates;
            let engine = float::FloatEngine::from_graph(graph, &model.name, keep)?;
            Ok(Box::new(engine))
        }
        #[cfg(feature = "tract")]
        Program::Onnx(file) => Ok(Box::new(float::FloatEngine::from_onnx(
            file,
            &model.nchw_inputs,
            &model.name,
        )?)),
        #[cfg(not(feature = "tract"))]
        Program::Graph(_) | Program::Onnx(_) => Err(crate::Error::Unsupported {
            model: model.name.clone(),
            feature: "a float model in a build without the feature `tract`".into(),
            advice: "build with the default features, or quantize the model".into(),
        }),
    }
}

/// The float engine for a graph that the plan refused with `error`, if weights are the graph's only 8-bit values.
#[cfg(feature = "tract")]
fn load_dequantized(
    graph: &crate::graph::Graph,
    name: &str,
    options: Options,
    error: crate::Error,
) -> Result<Box<dyn Engine>> {
    let mut graph = graph.clone();
    crate::graph::passes::dequantize_weights(&mut graph);
    if !graph.is_float() || !matches!(error, crate::Error::Unsupported { .. }) {
        return Err(error);
    }
    let engine = float::FloatEngine::from_graph(&graph, name, options.keep_intermediates)?;
    Ok(Box::new(engine))
}

#[cfg(not(feature = "tract"))]
fn load_dequantized(
    _: &crate::graph::Graph,
    _: &str,
    _: Options,
    error: crate::Error,
) -> Result<Box<dyn Engine>> {
    Err(error)
}

/// Whether `data` fits input `index`.
fn check_input(inputs: &[TensorInfo], index: usize, data: TensorView<'_>) -> Result<()> {
    let Some(info) = inputs.get(index) else {
        let message = format!("there is no input {index}; the model has {}", inputs.len());
        return Err(crate::Error::Usage(message));
    };
    if data.dtype() == info.dtype && data.len() == info.shape.elements() {
        return Ok(());
    }
    Err(crate::Error::Usage(format!(
        "input {index} ({}) takes {} elements of {}, not {} of {}",
        info.name,
        info.shape.elements(),
        info.dtype,
        data.len(),
        data.dtype()
    )))
}
