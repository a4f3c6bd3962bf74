//! A quantized file as a float one: weights dequantized, QuantizeLinear and DequantizeLinear replaced by the clamp that
//! the range of the codes is.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::constant::{self, Constant, Elements};
use super::site::Site;
use crate::error::Result;
use crate::tensor::QuantParams;

/// The graph of the operators that [`expand`](super::expand) has written out.
pub(super) fn graph(
    model: &str,
    opset: i64,
    file: &GraphProto,
    sites: &[Site],
) -> Result<GraphProto> {
    let constants = sites.iter().filter(|site| site.op() == "Constant");
    let constants = constants.filter_map(|site| Some((site.output(), site.tensor("value")?)));
    let initializers = file.initializer.iter().map(|t| (t.name.as_str(), t));
    let mut writer = Writer {
        model,
        opset,
        constants: initializers.chain(constants).collect(),
        fed: file.input.iter().map(|input| input.name.as_str()).collect(),
        codes: HashMap::new(),
        nodes: Vec::new(),
        tensors: Vec::new(),
    };
    for site in sites {
        writer.site(site)?;
    }
    let mut graph = file.clone();
    let made: HashSet<&str> = writer
        .tensors
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    let read: HashSet<&str> = writer
        .nodes
        .iter()
        .flat_map(|node| &node.input)
        .map(String::as_str)
        .collect();
    graph.initializer.retain(|tensor| {
        read.contains(tensor.name.as_str()) && !made.contains(tensor.name.as_str())
    });
    graph.initializer.extend(writer.tensors);
    graph.node = writer.nodes;
    graph.value_info.clear();
    graph.quantization_annotation.clear();
    Ok(graph)
}

struct Writer<'a> {
    model: &'a str,
    opset: i64,
    constants: HashMap<&'a str, &'a TensorProto>,
    fed: HashSet<&'a str>,
    /// Scale and zero point of each dequantized tensor.
    codes: HashMap<String, QuantParams>,
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

impl Writer<'_> {
    fn site(&mut self, site: &Site) -> Result<()> {
        match site.op() {
            "DequantizeLinear" => self.dequantize(site),
            "QuantizeLinear" => self.quantize(site),
            "Conv" | "Gemm" => self.product(site),
            "Pad" => {
                // A code that pads stands for 0, the default.
                let mut node = site.node.clone();
                if self
                    .constant(site, 2)?
                    .is_some_and(|value| value.reals().is_none())
                {
                    node.input[2].clear();
                }
                self.nodes.push(node);
                Ok(())
            }
            _ => {
                self.nodes.push(site.node.clone());
                Ok(())
            }
        }
    }

    fn constant(&self, site: &Site, position: usize) -> Result<Option<Constant>> {
        let tensor = site
            .input(position)
            .and_then(|name| self.constants.get(name));
        let read = |tensor: &&TensorProto| constant::read(tensor);
        tensor
            .map(read)
            .transpose()
            .map_err(|reason| site.damaged(self.model, reason))
    }

    /// Scale and zero point, and the range of the codes.
    fn parameters(&self, site: &Site) -> Result<(QuantParams, [i32; 2])> {
        let advice = "quantize the model with constant scales";
        let refuse = || site.unsupported(self.model, "with a computed scale", advice);
        let scales = self
            .constant(site, 1)?
            .and_then(|scale| scale.reals())
            .ok_or_else(refuse)?;
        let zero = self.constant(site, 2)?;
        let range = match zero.as_ref().map(|zero| &zero.data) {
            Some(Elements::I8(_)) => [-128, 127],
            Some(Elements::I32(_)) => [i32::MIN, i32::MAX],
            _ => [0, 255],
        };
        let zeros = zero.and_then(|zero| zero.integers());
        let zeros = zeros.map(|zeros| zeros.iter().map(|&zero| zero as i32).collect());
        let zero_points: Vec<i32> = zeros.unwrap_or_else(|| vec![0; scales.len()]);
        if scales.is_empty() || zero_points.len() != scales.len() {
            return Err(site.damaged(
                self.model,
                "its scales and zero points are not equally many",
            ));
        }
        let quant = QuantParams {
            scales,
            zero_points,
            axis: usize::try_from(site.int("axis", 1)).unwrap_or(0),
        };
        Ok((quant, range))
    }

    fn dequantize(&mut self, site: &Site) -> Result<()> {
        let (mut quant, _) = self.parameters(site)?;
        if let Some(mut codes) = self.constant(site, 0)? {
            if !quant.is_per_channel() {
                quant.axis = 0;
            } else if codes.dims.get(quant.axis) != Some(&quant.scales.len()) {
                return Err(site.damaged(self.model, "its scales do not fit its input"));
            }
            codes.quant = Some(quant.clone());
            self.codes.insert(site.output().into(), quant);
            let reals = codes.reals().unwrap_or_default();
            self.tensors.push(real(site.output(), &codes.dims, reals));
            return Ok(());
        }
        let (scale, zero) = (quant.scale(), quant.zero_point());
        self.codes.insert(site.output().into(), quant);
        let x = site.input(0).unwrap_or_default();
        if !self.fed.contains(x) {
            self.push("Identity", &[x.into()], site.output(), &[]);
            return Ok(());
        }
        let [cast, shifted] = ["cast", "shifted"].map(|part| format!("{}/{part}", site.output()));
        let [zero_name, scale_name] =
            ["zero", "scale"].map(|part| format!("{}/{part}", site.output()));
        self.tensors.push(real(&zero_name, &[], vec![zero as f32]));
        self.tensors.push(real(&scale_name, &[], vec![scale]));
        self.push(
            "Cast",
            &[x.into()],
            &cast,
            &[("to", Setting::Int(DataType::Float as i64))],
        );
        self.push("Sub", &[cast, zero_name], &shifted, &[]);
        self.push("Mul", &[shifted, scale_name], site.output(), &[]);
        Ok(())
    }

    fn quantize(&mut self, site: &Site) -> Result<()> {
        let (quant, [least, most]) = self.parameters(site)?;
        let real_of =
            |code: i32| quant.scale() * (f64::from(code) - f64::from(quant.zero_point())) as f32;
        let x = site.input(0).unwrap_or_default().to_owned();
        if quant.is_per_channel() {
            self.push("Identity", &[x], site.output(), &[]);
            return Ok(());
        }
        let (low, high) = (real_of(least), real_of(most));
        if self.opset < 11 {
            let bounds = [("min", Setting::Float(low)), ("max", Setting::Float(high))];
            self.push("Clip", &[x], site.output(), &bounds);
            return Ok(());
        }
        let [low_name, high_name] = ["low", "high"].map(|part| format!("{}/{part}", site.output()));
        self.tensors.push(real(&low_name, &[], vec![low]));
        self.tensors.push(real(&high_name, &[], vec![high]));
        self.push("Clip", &[x, low_name, high_name], site.output(), &[]);
        Ok(())
    }

    /// A bias of sums is in the scale of the inputs and the weights.
    fn product(&mut self, site: &Site) -> Result<()> {
        let mut node = site.node.clone();
        let bias = self.constant(site, 2)?;
        let quant = |position| site.input(position).and_then(|name| self.codes.get(name));
        if let (Some(bias), Some(x), Some(weights)) = (bias, quant(0), quant(1))
            && let Elements::I32(sums) = &bias.data
        {
            let scale =
                |channel: usize| x.scale() * weights.scales[channel.min(weights.scales.len() - 1)];
            let reals = sums
                .iter()
                .enumerate()
                .map(|(channel, &sum)| sum as f32 * scale(channel));
            let name = format!("{}/bias", site.output());
            let tensor = real(&name, &bias.dims, reals.collect());
            self.tensors.push(tensor);
            node.input[2] = name;
        }
        self.nodes.push(node);
        Ok(())
    }

    fn push(&mut self, op: &str, inputs: &[String], output: &str, settings: &[(&str, Setting)]) {
        let attribute = settings.iter().map(|&(name, setting)| {
            let (i, f, kind) = match setting {
                Setting::Int(value) => (value, 0.0, 2),
                Setting::Float(value) => (0, value, 1),
            };
            AttributeProto {
                name: name.into(),
                r#type: kind,
                i,
                f,
                ..Default::default()
            }
        });
        self.nodes.push(NodeProto {
            name: output.into(),
            op_type: op.into(),
            input: inputs.to_vec(),
            output: vec![output.into()],
            attribute: attribute.collect(),
            ..Default::default()
        });
    }
}

/// The value of an attribute.
#[derive(Clone, Copy)]
enum Setting {
    Int(i64),
    Float(f32),
}

fn real(name: &str, dims: &[usize], data: Vec<f32>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: DataType::Float.into(),
        float_data: data,
        ..Default::default()
    }
}
