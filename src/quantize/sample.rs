//! Small graphs with statistics of their own, for tests.

use std::collections::BTreeSet;

use super::calibrate::{Observed, Statistics};
use super::codes::{Granularity, WeightFormat, WeightScale};
use super::histogram::Range;
use super::lower::{InputType, Lowered, lower};
use super::scheme::{KeptAs, Mode, Settings};
use crate::graph::{Activation, Conv2d, Graph, Node, Op, Padding2d, Value, ValueId};
use crate::tensor::{DType, Shape, TensorData, TensorInfo};

/// 8-bit weights per channel, minimum and maximum, nothing else.
pub(super) fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        weights: WeightFormat {
            bits: 8,
            granularity: Granularity::PerChannel,
            scale: WeightScale::Largest,
        },
        kept: BTreeSet::new(),
        kept_as: KeptAs::Float,
        bias_correction: false,
    }
}

fn pointwise(activation: Activation) -> Conv2d {
    Conv2d {
        stride: [1, 1],
        dilation: [1, 1],
        padding: Padding2d::default(),
        activation,
    }
}

/// A float graph that grows node by node.
#[derive(Default)]
pub(super) struct Sample {
    pub graph: Graph,
    seen: Vec<Option<Observed>>,
    /// How much more the input's codes stand for than they should.
    pub input_shift: f32,
}

impl Sample {
    fn value(&mut self, name: &str, dims: &[usize], data: Option<&[f32]>) -> ValueId {
        self.graph.values.push(Value {
            info: TensorInfo {
                name: name.into(),
                shape: Shape::checked(dims.to_vec()).unwrap(),
                dtype: DType::F32,
                quant: None,
            },
            data: data.map(|data| TensorData::F32(data.to_vec())),
        });
        self.seen.push(None);
        ValueId(self.graph.values.len() - 1)
    }

    /// The input, called `x`.
    pub fn input(&mut self, dims: &[usize]) -> ValueId {
        let id = self.value("x", dims, None);
        self.graph.inputs.push(id);
        id
    }

    /// An operator of one output, of which nothing has been seen yet.
    pub fn node(&mut self, op: Op, inputs: &[ValueId], dims: &[usize], name: &str) -> ValueId {
        let output = self.value(name, dims, None);
        let index = self.graph.nodes.len();
        self.graph.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: vec![output],
            index,
        });
        output
    }

    /// A pointwise convolution of one channel to as many as there are weights; its constants are `NAME/weights` and
    /// `NAME/bias`.
    pub fn conv(
        &mut self,
        x: ValueId,
        weights: &[f32],
        bias: &[f32],
        activation: Activation,
        name: &str,
    ) -> ValueId {
        let channels = bias.len();
        let depth = weights.len() / channels;
        let weights = self.value(
            &format!("{name}/weights"),
            &[channels, 1, 1, depth],
            Some(weights),
        );
        let bias = self.value(&format!("{name}/bias"), &[channels], Some(bias));
        let mut dims = self.graph.shape(x).dims().to_vec();
        dims[3] = channels;
        let op = Op::Conv2d(pointwise(activation));
        self.node(op, &[x, weights, bias], &dims, name)
    }

    /// The same depthwise: a weight for each channel.
    pub fn depthwise(&mut self, x: ValueId, weights: &[f32], name: &str) -> ValueId {
        let channels = weights.len();
        let weights = self.value(
            &format!("{name}/weights"),
            &[1, 1, 1, channels],
            Some(weights),
        );
        let bias = self.value(
            &format!("{name}/bias"),
            &[channels],
            Some(&vec![0.0; channels]),
        );
        let dims = self.graph.shape(x).dims().to_vec();
        let op = Op::DepthwiseConv2d(pointwise(Activation::None));
        self.node(op, &[x, weights, bias], &dims, name)
    }

    pub fn output(&mut self, id: ValueId) {
        self.graph.outputs.push(id);
    }

    /// What calibration saw of a value.
    pub fn observe(&mut self, id: ValueId, values: &[f32]) {
        assert!(
            self.seen[id.0]
                .get_or_insert_default()
                .histogram
                .add(values)
        );
    }

    /// The mean of each channel of a value.
    pub fn set_means(&mut self, id: ValueId, means: &[f32]) {
        self.seen[id.0].get_or_insert_default().means = means.to_vec();
    }

    /// The largest value of each channel of a value.
    pub fn set_maxima(&mut self, id: ValueId, maxima: &[f32]) {
        self.seen[id.0].get_or_insert_default().maxima = maxima.to_vec();
    }

    pub fn statistics(&self) -> Statistics {
        let mut seen = self.seen.clone();
        for observed in seen.iter_mut().flatten() {
            observed.range = observed.histogram.range();
        }
        Statistics::of_values(seen, vec![self.input_shift])
    }

    /// The quantized graph, with an input from -1 to 1.
    pub fn lower(&self, settings: &Settings, input: InputType) -> Lowered {
        self.graph.validate("sample").unwrap();
        let range = Range {
            min: -1.0,
            max: 1.0,
        };
        lower(&self.graph, &self.statistics(), settings, (input, range))
    }
}
