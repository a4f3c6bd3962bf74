//! Constants of the file: weights and biases, scales and zero points, arguments of operators.

use super::proto;
use super::writer::{View, Writer, data_type};
use crate::quantize::lower::{Constant, Element, Tensor};
use crate::tensor::QuantParams;

impl Writer {
    /// The names of scale and zero point; sums of 32 bits have none.
    pub fn parameters(&mut self, tensor: usize, quant: &QuantParams) -> Vec<String> {
        let element = self.tensors[tensor].element;
        let dims = match quant.is_per_channel() {
            true => vec![quant.scales.len()],
            false => vec![],
        };
        let scales = Constant::Real(quant.scales.clone());
        let mut names = vec![self.small("scale", Element::F32, dims.clone(), scales)];
        if element != Element::I32 {
            let zeros = quant.zero_points.iter().map(|&zero| zero.into()).collect();
            names.push(self.small("zero_point", element, dims, Constant::Codes(zeros)));
        }
        names
    }

    /// A constant with its axes in this order, and what makes its codes real.
    pub fn constant(&mut self, tensor: usize, axes: &[usize]) -> String {
        let Tensor {
            shape,
            element,
            quant,
            data,
            ..
        } = self.tensors[tensor].clone();
        let data = data.unwrap_or(Constant::Real(Vec::new()));
        // ONNX dequantizes no sums of 64 bits.
        let (element, quant, data) = match (element, &quant, &data) {
            (Element::I64, Some(quant), Constant::Codes(codes)) => {
                let last = quant.scales.len() - 1;
                let real = codes.iter().enumerate().map(|(channel, &code)| {
                    (code as f64 * f64::from(quant.scales[channel.min(last)])) as f32
                });
                (Element::F32, None, Constant::Real(real.collect()))
            }
            _ => (element, quant, data),
        };
        let positions = positions(shape.dims(), axes);
        let data = match data {
            Constant::Real(data) => Constant::Real(positions.iter().map(|&at| data[at]).collect()),
            Constant::Codes(data) => {
                Constant::Codes(positions.iter().map(|&at| data[at]).collect())
            }
        };
        let dims: Vec<usize> = axes.iter().map(|&axis| shape.dims()[axis]).collect();
        let name = self.claim(tensor);
        let bytes = data.bytes(element);
        self.initializers
            .push(proto::tensor(&name, data_type(element), &dims, bytes));
        let name = match quant {
            Some(quant) => self.dequantized(tensor, name, &quant, axes),
            None => name,
        };
        let view = View {
            name: name.clone(),
            axes: axes.to_vec(),
        };
        self.views[tensor].push(view);
        name
    }

    /// A small constant; equal ones are one.
    pub fn small(
        &mut self,
        role: &str,
        element: Element,
        dims: Vec<usize>,
        data: Constant,
    ) -> String {
        let kind = data_type(element);
        let key = (kind.into(), dims, data.bytes(element));
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = self.fresh(role);
        self.initializers
            .push(proto::tensor(&name, kind, &key.1, key.2.clone()));
        self.known.insert(key, name.clone());
        name
    }

    /// A list of integers that an operator takes as an input.
    pub fn list(&mut self, role: &str, values: Vec<i64>) -> String {
        let dims = vec![values.len()];
        self.small(role, Element::I64, dims, Constant::Codes(values))
    }
}

/// For each element of a constant with its axes in this order, where it lies.
fn positions(dims: &[usize], axes: &[usize]) -> Vec<usize> {
    let mut positions = vec![0];
    for &axis in axes {
        let step: usize = dims[axis + 1..].iter().product();
        positions = positions
            .iter()
            .flat_map(|&start| (0..dims[axis]).map(move |at| start + at * step))
            .collect();
    }
    positions
}
