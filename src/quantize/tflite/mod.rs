//! The writer of `.tflite` files.

mod expand;
mod metadata;
mod options;
mod version;

use std::collections::BTreeMap;

use flatbuffers::{FlatBufferBuilder, Vector, WIPOffset};
use tract_tflite::tflite::{
    self, Buffer, BufferArgs, BuiltinOperator, BuiltinOptions, CustomOptionsFormat, ModelArgs,
    OperatorArgs, OperatorCodeArgs, QuantizationParametersArgs, SubGraphArgs, TensorArgs,
};

use super::lower::{Lowered, Tensor};
use crate::error::Result;
use crate::graph::Op;
use crate::model::Metadata;
use expand::{Sheet, Step};

/// The schema's version.
const VERSION: u32 = 3;

/// Codes from this on do not fit the field of old readers.
const PLACEHOLDER: i32 = 127;

/// The bytes of a `.tflite` file. The same model gives the same bytes. `model` is for messages.
///
/// # Errors
/// The schema has no words for an attribute.
pub fn write(lowered: &Lowered, metadata: &Metadata, model: &str) -> Result<Vec<u8>> {
    let sheet = expand::expand(lowered, model)?;
    let mut writer = Writer {
        builder: FlatBufferBuilder::new(),
        buffers: vec![Vec::new()],
        known: BTreeMap::new(),
    };
    let described = writer.buffer(metadata::table(metadata));
    let file = writer.file(&sheet, lowered, described);
    match &metadata.labels {
        Some(labels) => metadata::with_labels(file, labels),
        None => Ok(file),
    }
}

struct Writer<'f> {
    builder: FlatBufferBuilder<'f>,
    /// The first is empty and stands for no data.
    buffers: Vec<Vec<u8>>,
    /// Where equal bytes are already.
    known: BTreeMap<Vec<u8>, u32>,
}

impl<'f> Writer<'f> {
    /// The index of a buffer with these bytes.
    fn buffer(&mut self, bytes: Vec<u8>) -> u32 {
        let next = self.buffers.len() as u32;
        *self.known.entry(bytes).or_insert_with_key(|bytes| {
            self.buffers.push(bytes.clone());
            next
        })
    }

    fn file(&mut self, sheet: &Sheet, lowered: &Lowered, described: u32) -> Vec<u8> {
        let tensors: Vec<_> = sheet
            .tensors
            .iter()
            .map(|tensor| self.tensor(tensor))
            .collect();
        let codes = Codes::of(sheet);
        let operators: Vec<_> = sheet
            .steps
            .iter()
            .map(|step| self.operator(step, sheet, codes.index(step, sheet)))
            .collect();
        let subgraph = SubGraphArgs {
            tensors: Some(self.builder.create_vector(&tensors)),
            inputs: Some(self.indices(&lowered.inputs)),
            outputs: Some(self.indices(&lowered.outputs)),
            operators: Some(self.builder.create_vector(&operators)),
            name: Some(self.builder.create_string("main")),
        };
        let subgraph = tflite::SubGraph::create(&mut self.builder, &subgraph);
        let name = self.builder.create_string("TFLITE_METADATA");
        let entry = tflite::MetadataArgs {
            name: Some(name),
            buffer: described,
        };
        let entry = tflite::Metadata::create(&mut self.builder, &entry);
        let codes: Vec<_> = codes.0.iter().map(|code| self.code(code)).collect();
        let buffers: Vec<_> = std::mem::take(&mut self.buffers)
            .iter()
            .map(|bytes| self.stored(bytes))
            .collect();
        let model = ModelArgs {
            version: VERSION,
            operator_codes: Some(self.builder.create_vector(&codes)),
            subgraphs: Some(self.builder.create_vector(&[subgraph])),
            description: Some(self.builder.create_string("Quantized by eyas.")),
            buffers: Some(self.builder.create_vector(&buffers)),
            metadata: Some(self.builder.create_vector(&[entry])),
            metadata_buffer: None,
            signature_defs: None,
        };
        let model = tflite::Model::create(&mut self.builder, &model);
        tflite::finish_model_buffer(&mut self.builder, model);
        self.builder.finished_data().to_vec()
    }

    fn indices(&mut self, indices: &[usize]) -> WIPOffset<Vector<'f, i32>> {
        let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
        self.builder.create_vector(&indices)
    }

    fn tensor(&mut self, tensor: &Tensor) -> WIPOffset<tflite::Tensor<'f>> {
        let buffer = match &tensor.data {
            Some(data) => self.buffer(data.bytes(tensor.element)),
            None => 0,
        };
        let dims: Vec<i32> = tensor.shape.dims().iter().map(|&dim| dim as i32).collect();
        let quantization = tensor.quant.as_ref().map(|quant| {
            let zeros: Vec<i64> = quant.zero_points.iter().map(|&zero| zero.into()).collect();
            let parameters = QuantizationParametersArgs {
                scale: Some(self.builder.create_vector(&quant.scales)),
                zero_point: Some(self.builder.create_vector(&zeros)),
                quantized_dimension: quant.axis as i32,
                ..Default::default()
            };
            tflite::QuantizationParameters::create(&mut self.builder, &parameters)
        });
        let args = TensorArgs {
            shape: Some(self.builder.create_vector(&dims)),
            type_: options::tensor_type(tensor.element),
            buffer,
            name: Some(self.builder.create_string(&tensor.name)),
            quantization,
            has_rank: true,
            ..Default::default()
        };
        tflite::Tensor::create(&mut self.builder, &args)
    }

    fn operator(
        &mut self,
        step: &Step,
        sheet: &Sheet,
        code: u32,
    ) -> WIPOffset<tflite::Operator<'f>> {
        let (builtin_options_type, builtin_options) =
            options::options(&mut self.builder, step, sheet);
        let custom_options = match &step.op {
            Op::DetectionPostProcess(attributes) => Some(
                self.builder
                    .create_vector(&options::post_process(attributes)),
            ),
            _ => None,
        };
        debug_assert!(custom_options.is_none() || builtin_options_type == BuiltinOptions::NONE);
        let args = OperatorArgs {
            opcode_index: code,
            inputs: Some(self.indices(&step.inputs)),
            outputs: Some(self.indices(&step.outputs)),
            builtin_options_type,
            builtin_options,
            custom_options,
            custom_options_format: CustomOptionsFormat::FLEXBUFFERS,
            ..Default::default()
        };
        tflite::Operator::create(&mut self.builder, &args)
    }

    fn code(
        &mut self,
        &(builtin, version): &(BuiltinOperator, i32),
    ) -> WIPOffset<tflite::OperatorCode<'f>> {
        let is_custom = builtin == BuiltinOperator::CUSTOM;
        let custom_code =
            is_custom.then(|| self.builder.create_string("TFLite_Detection_PostProcess"));
        let args = OperatorCodeArgs {
            deprecated_builtin_code: builtin.0.min(PLACEHOLDER) as i8,
            custom_code,
            version,
            builtin_code: builtin,
        };
        tflite::OperatorCode::create(&mut self.builder, &args)
    }

    /// A buffer whose bytes begin at a multiple of 8 of the file, as its 64-bit elements need.
    fn stored(&mut self, bytes: &[u8]) -> WIPOffset<Buffer<'f>> {
        let data = (!bytes.is_empty()).then(|| {
            self.builder.start_vector::<u64>(bytes.len().div_ceil(8));
            for word in bytes.chunks(8).rev() {
                let mut padded = [0; 8];
                padded[..word.len()].copy_from_slice(word);
                self.builder.push(u64::from_le_bytes(padded));
            }
            self.builder.end_vector::<u8>(bytes.len())
        });
        Buffer::create(&mut self.builder, &BufferArgs { data })
    }
}

/// The operators that the file uses, each once.
struct Codes(Vec<(BuiltinOperator, i32)>);

impl Codes {
    fn of(sheet: &Sheet) -> Self {
        let mut codes = Vec::new();
        for step in &sheet.steps {
            let code = (step.builtin, version::version(step, sheet));
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        Self(codes)
    }

    fn index(&self, step: &Step, sheet: &Sheet) -> u32 {
        let code = (step.builtin, version::version(step, sheet));
        let index = self.0.iter().position(|known| *known == code);
        index.unwrap_or_default() as u32
    }
}
