//! tract as the engine of float models: wholly float graphs, and ONNX files that tract loads itself.

mod build;
mod onnx;
mod ops;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::tract_core::internal::{
    DatumType, IntoRunnable, RunnableModel, TValue, Tensor, TractResult, TypedFact, TypedModel,
    TypedOp, TypedSimpleState, tvec,
};

use super::{Engine, StepInfo};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels::postprocess::{
    Encodings, PostProcessOptions, PostProcessOutputs, PostProcessScratch, detection_post_process,
};
use crate::model::OnnxFile;
use crate::tensor::{Shape, TensorData, TensorInfo, TensorView};

/// One value that the engine holds between steps.
#[derive(Debug)]
struct Slot {
    info: TensorInfo,
    data: TensorData,
}

/// A detection post-processing step; inputs and outputs index the slots.
#[derive(Debug)]
struct PostProcess {
    step: StepInfo,
    options: PostProcessOptions,
    inputs: [usize; 3],
    outputs: [usize; 4],
    scratch: PostProcessScratch,
}

/// What a front end makes and [`FloatEngine`] runs.
#[derive(Debug)]
struct Prepared {
    model: TypedModel,
    /// Slots: the model's inputs, then whatever is kept.
    slots: Vec<Slot>,
    /// Slot of each input of the model, which tract's model has in the same order.
    inputs: Vec<usize>,
    /// Inputs, by position, whose slots are NHWC and which tract's model takes as NCHW.
    nchw_inputs: Vec<usize>,
    /// Output of tract's model and the slot that it fills.
    fetched: Vec<(usize, usize)>,
    post: Vec<PostProcess>,
    /// Slot of each output of the model.
    outputs: Vec<usize>,
    /// Slots that nodes fill, in the order of the nodes.
    made: Vec<usize>,
}

/// A model in tract, followed by the steps that tract does not have.
pub(super) struct FloatEngine {
    name: String,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    prepared: Prepared,
    state: Option<TypedSimpleState>,
    step: Option<StepInfo>,
}

impl FloatEngine {
    /// The engine of a graph that is wholly float. `name` is what messages call the model. With
    /// `keep_intermediates` every value that a node makes can be read after a run.
    pub(super) fn from_graph(graph: &Graph, name: &str, keep_intermediates: bool) -> Result<Self> {
        let prepared = guarded(name, || build::prepare(graph, name, keep_intermediates))?;
        Self::start(prepared, name)
    }

    /// The engine of a float ONNX file. Inputs and outputs keep the file's own layout, but for the inputs
    /// `nchw_inputs`, which it takes as NHWC.
    pub(super) fn from_onnx(file: &OnnxFile, nchw_inputs: &[usize], name: &str) -> Result<Self> {
        let prepared = guarded(name, || onnx::prepare(file, nchw_inputs, name))?;
        Self::start(prepared, name)
    }

    fn start(mut prepared: Prepared, name: &str) -> Result<Self> {
        let macs = multiply_accumulates(&prepared.model);
        let model = std::mem::take(&mut prepared.model);
        let has_nodes = !prepared.fetched.is_empty();
        let state = guarded(name, || {
            let start = || -> TractResult<TypedSimpleState> {
                let plan: Arc<RunnableModel<TypedFact, Box<dyn TypedOp>>> =
                    model.into_optimized()?.into_runnable()?;
                plan.spawn()
            };
            match has_nodes {
                true => start().map(Some).map_err(|error| refused(name, &error)),
                false => Ok(None),
            }
        })?;
        let step = prepared.fetched.last().map(|&(_, slot)| {
            let info = &prepared.slots[slot].info;
            StepInfo {
                index: 0,
                op: "float graph".into(),
                output: info.name.clone(),
                shape: info.shape.clone(),
                kernel: "tract".into(),
                macs,
                bytes: 0,
            }
        });
        let infos = |slots: &[usize]| -> Vec<TensorInfo> {
            let info = |&slot: &usize| prepared.slots[slot].info.clone();
            slots.iter().map(info).collect()
        };
        Ok(Self {
            name: name.to_owned(),
            inputs: infos(&prepared.inputs),
            outputs: infos(&prepared.outputs),
            prepared,
            state,
            step,
        })
    }

    fn run_tract(&mut self) -> Result<()> {
        let Some(state) = &mut self.state else {
            return Ok(());
        };
        let Prepared {
            slots,
            inputs,
            nchw_inputs,
            fetched,
            ..
        } = &mut self.prepared;
        let mut feed = tvec!();
        for (position, &input) in inputs.iter().enumerate() {
            let tensor = to_tensor(&slots[input], nchw_inputs.contains(&position));
            feed.push(tensor.map_err(|e| internal(&self.name, &e))?);
        }
        let results = guarded(&self.name, || {
            state.run(feed).map_err(|e| internal(&self.name, &e))
        })?;
        for &(output, slot) in fetched.iter() {
            read_tensor(&results[output], &mut slots[slot].data)
                .map_err(|e| internal(&self.name, &e))?;
        }
        Ok(())
    }
}

impl Engine for FloatEngine {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    fn set_input(&mut self, index: usize, data: TensorView<'_>) -> Result<()> {
        let Some(&slot) = self.prepared.inputs.get(index) else {
            let inputs = self.inputs.len();
            return Err(Error::Usage(format!(
                "{}: there is no input {index}; the model has {inputs}",
                self.name
            )));
        };
        let slot = &mut self.prepared.slots[slot];
        if copy_into(data, &mut slot.data) {
            return Ok(());
        }
        let TensorInfo {
            name, shape, dtype, ..
        } = &slot.info;
        Err(Error::Usage(format!(
            "{}: input {index} ({name}) takes {} elements of {dtype} (shape {shape}), not {} of {}",
            self.name,
            shape.elements(),
            data.len(),
            data.dtype()
        )))
    }

    fn run(&mut self) -> Result<()> {
        self.run_tract()?;
        let Prepared { post, slots, .. } = &mut self.prepared;
        post.iter_mut().for_each(|step| step.run(slots));
        Ok(())
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        self.prepared.slots[self.prepared.outputs[index]]
            .data
            .view()
    }

    fn intermediates(&self) -> Vec<(TensorInfo, TensorData)> {
        let made = self.prepared.made.iter();
        made.map(|&slot| &self.prepared.slots[slot])
            .map(|slot| (slot.info.clone(), slot.data.clone()))
            .collect()
    }

    fn steps(&self) -> Vec<StepInfo> {
        let post = self.prepared.post.iter().map(|post| post.step.clone());
        self.step.iter().cloned().chain(post).collect()
    }

    fn run_profiled(&mut self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        if self.step.is_some() {
            let start = Instant::now();
            self.run_tract()?;
            times.push(start.elapsed());
        }
        let Prepared { post, slots, .. } = &mut self.prepared;
        for step in post {
            let start = Instant::now();
            step.run(slots);
            times.push(start.elapsed());
        }
        Ok(times)
    }

    fn summary(&self) -> String {
        "tract (float), 1 thread".into()
    }
}

impl PostProcess {
    fn run(&mut self, slots: &mut [Slot]) {
        let [boxes, classes, scores, count] = self.outputs;
        let mut take = |slot: usize| std::mem::replace(&mut slots[slot].data, EMPTY);
        let mut results = [take(boxes), take(classes), take(scores), take(count)];
        let [encodings, class_scores, anchors] = self.inputs.map(|slot| floats(&slots[slot].data));
        if let [
            TensorData::F32(boxes),
            TensorData::F32(classes),
            TensorData::F32(scores),
            TensorData::F32(count),
        ] = &mut results
        {
            let out = PostProcessOutputs {
                boxes,
                classes,
                scores,
                count: &mut count[0],
            };
            detection_post_process(
                &self.options,
                Encodings::Real(encodings),
                class_scores,
                anchors,
                &mut self.scratch,
                out,
            );
        }
        for (slot, data) in self.outputs.into_iter().zip(results) {
            slots[slot].data = data;
        }
    }
}

const EMPTY: TensorData = TensorData::F32(Vec::new());

/// The elements of a slot that `build` made as f32.
fn floats(data: &TensorData) -> &[f32] {
    match data {
        TensorData::F32(data) => data,
        _ => &[],
    }
}

/// Runs code of tract, which can panic on a model that it does not know.
fn guarded<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::Internal(format!("{name}: tract panicked: {text}")))
    })
}

fn internal(name: &str, error: &tract_onnx::prelude::TractError) -> Error {
    Error::Internal(format!("{name}: tract failed: {error:#}"))
}

/// A model that tract does not take.
fn refused(name: &str, error: &tract_onnx::prelude::TractError) -> Error {
    Error::Unsupported {
        model: name.to_owned(),
        feature: format!("this float model (tract: {error:#})"),
        advice: "use a quantized .tflite file of the model, or report it".into(),
    }
}

/// Multiply-accumulate operations of a model whose shapes are known; what cannot be counted counts 0.
fn multiply_accumulates(model: &TypedModel) -> u64 {
    use tract_onnx::tract_core::ops::Cost;
    let of_node = |id: usize| -> TractResult<u64> {
        let inputs = model.node_input_facts(id)?;
        let mut macs = 0;
        for (cost, count) in model.node(id).op.cost(&inputs)? {
            if matches!(cost, Cost::FMA(_)) {
                macs += count.to_i64()? as u64;
            }
        }
        Ok(macs)
    };
    (0..model.nodes().len())
        .map(|id| of_node(id).unwrap_or(0))
        .sum()
}

/// Zeros of a type and shape.
fn zeros(info: &TensorInfo) -> TensorData {
    use crate::tensor::DType;
    let elements = info.shape.elements();
    match info.dtype {
        DType::U8 => TensorData::U8(vec![0; elements]),
        DType::I8 => TensorData::I8(vec![0; elements]),
        DType::I32 => TensorData::I32(vec![0; elements]),
        DType::F32 => TensorData::F32(vec![0.0; elements]),
    }
}

/// Whether types and lengths agree; only then `to` changes.
fn copy_into(from: TensorView<'_>, to: &mut TensorData) -> bool {
    let fits = from.dtype() == to.view().dtype() && from.len() == to.view().len();
    if fits {
        match (from, to) {
            (TensorView::U8(from), TensorData::U8(to)) => to.copy_from_slice(from),
            (TensorView::I8(from), TensorData::I8(to)) => to.copy_from_slice(from),
            (TensorView::I32(from), TensorData::I32(to)) => to.copy_from_slice(from),
            (TensorView::F32(from), TensorData::F32(to)) => to.copy_from_slice(from),
            _ => return false,
        }
    }
    fits
}

/// A slot as a tensor, from NHWC to NCHW if asked to.
fn to_tensor(slot: &Slot, to_nchw: bool) -> TractResult<TValue> {
    let tensor = constant(&slot.info.shape, slot.data.view())?;
    match to_nchw {
        true => Ok(tensor.permute_axes(&[0, 3, 1, 2])?.into()),
        false => Ok(tensor.into()),
    }
}

/// Our data as tract's.
fn constant(shape: &Shape, data: TensorView<'_>) -> TractResult<Tensor> {
    let dims = shape.dims();
    match data {
        TensorView::U8(data) => Tensor::from_shape(dims, data),
        TensorView::I8(data) => Tensor::from_shape(dims, data),
        TensorView::I32(data) => Tensor::from_shape(dims, data),
        TensorView::F32(data) => Tensor::from_shape(dims, data),
    }
}

/// tract's data as ours; an error if type or number of elements differ from what was promised at load.
fn read_tensor(tensor: &Tensor, to: &mut TensorData) -> TractResult<()> {
    let plain = tensor.try_as_plain_ram()?;
    let from = match tensor.datum_type() {
        DatumType::U8 => TensorView::U8(plain.as_slice()?),
        DatumType::I8 => TensorView::I8(plain.as_slice()?),
        DatumType::I32 => TensorView::I32(plain.as_slice()?),
        DatumType::F32 => TensorView::F32(plain.as_slice()?),
        other => return Err(unexpected(other)),
    };
    match copy_into(from, to) {
        true => Ok(()),
        false => Err(unexpected(tensor.datum_type())),
    }
}

fn unexpected(found: DatumType) -> tract_onnx::prelude::TractError {
    tract_onnx::prelude::TractError::msg(format!("an output is unexpectedly {found:?}"))
}

#[cfg(test)]
mod tests;
