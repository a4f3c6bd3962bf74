//! Operators on codes become DequantizeLinear, an operator on real values, and QuantizeLinear, so that all that comes
//! after knows one form of quantized files only.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto};

use super::site::Site;

/// The operators of a file, those on codes written out, dead ones left out.
pub(super) fn sites(file: &GraphProto) -> Vec<Site> {
    let mut sites = Vec::with_capacity(file.node.len());
    for (index, node) in file.node.iter().enumerate() {
        let site = Site::new(index, node.clone());
        match quantized(&site) {
            Some(parts) => sites.extend(parts.sites(&site)),
            None => sites.push(site),
        }
    }
    live(dynamic(sites), file)
}

/// An operator on codes in words.
struct Parts<'a> {
    /// The operator that it is on real values.
    op: &'a str,
    /// Position of each tensor of codes, which its scale and zero point follow.
    codes: Vec<usize>,
    /// Position of a bias or another input that stays.
    rest: Option<usize>,
    /// Position of the scale of the result, which its zero point follows.
    result: usize,
}

fn quantized(site: &Site) -> Option<Parts<'_>> {
    let parts = |op, codes: &[usize], rest, result| {
        Some(Parts {
            op,
            codes: codes.to_vec(),
            rest,
            result,
        })
    };
    match site.op() {
        "QLinearConv" => parts("Conv", &[0, 3], Some(8), 6),
        "QLinearMatMul" => parts("MatMul", &[0, 3], None, 6),
        "QGemm" => parts("Gemm", &[0, 3], Some(6), 7),
        "QLinearAdd" => parts("Add", &[0, 3], None, 6),
        "QLinearMul" => parts("Mul", &[0, 3], None, 6),
        "QLinearSigmoid" => parts("Sigmoid", &[0], None, 3),
        "QLinearSoftmax" => parts("Softmax", &[0], None, 3),
        "QLinearAveragePool" => parts("AveragePool", &[0], None, 3),
        "QLinearGlobalAveragePool" => parts("GlobalAveragePool", &[0], None, 3),
        "QLinearReduceMean" => parts("ReduceMean", &[0], None, 3),
        "QLinearConcat" => {
            let inputs = site.node.input.len().saturating_sub(2);
            let codes: Vec<usize> = (0..inputs / 3).map(|i| 2 + 3 * i).collect();
            parts("Concat", &codes, None, 0)
        }
        _ => None,
    }
    .filter(|_| site.int("channels_last", 0) == 0)
}

impl Parts<'_> {
    fn sites(&self, site: &Site) -> Vec<Site> {
        let output = site.output();
        let input = |position: usize| site.node.input.get(position).cloned().unwrap_or_default();
        let mut sites = Vec::new();
        let mut inputs = Vec::new();
        for &position in &self.codes {
            let real = format!("{output}/input {position}");
            let axis = match (self.op, position) {
                // Weights: the output channels of a convolution, the columns of a matrix.
                ("Conv", 3) => 0,
                ("Gemm", 3) if site.int("transB", 0) != 0 => 0,
                _ => 1,
            };
            let codes = [position, position + 1, position + 2].map(input);
            sites.push(Site::new(
                site.index,
                step("DequantizeLinear", &codes, &real, axis),
            ));
            inputs.push(real);
        }
        inputs.extend(self.rest.map(input).filter(|name| !name.is_empty()));
        let real = format!("{output}/real");
        let mut node = site.node.clone();
        node.op_type = self.op.into();
        node.domain.clear();
        node.input = inputs;
        node.output = vec![real.clone()];
        sites.push(Site::new(site.index, node));
        let result = [real, input(self.result), input(self.result + 1)];
        sites.push(Site::new(
            site.index,
            step("QuantizeLinear", &result, output, 1),
        ));
        sites
    }
}

fn step(op: &str, inputs: &[String], output: &str, axis: i64) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.to_vec(),
        output: vec![output.into()],
        attribute: vec![tract_onnx::pb::AttributeProto {
            name: "axis".into(),
            i: axis,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Products that quantize their input on the fly (`DynamicQuantizeLinear`, `ConvInteger` or `MatMulInteger`, `Cast`, and
/// `Mul` by both scales) become products of real values and dequantized weights, marked as dynamic.
fn dynamic(mut sites: Vec<Site>) -> Vec<Site> {
    let found: Vec<(usize, [Site; 2])> = {
        let uses = Uses::new(&sites);
        sites.iter().filter_map(|site| uses.product(site)).collect()
    };
    let mut replacements: HashMap<usize, [Site; 2]> = found.into_iter().collect();
    let mut replaced = Vec::with_capacity(sites.len());
    for (at, site) in sites.drain(..).enumerate() {
        match replacements.remove(&at) {
            Some(pair) => replaced.extend(pair),
            None => replaced.push(site),
        }
    }
    replaced
}

/// Who makes and reads each tensor.
struct Uses<'a> {
    sites: &'a [Site],
    makers: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Uses<'a> {
    fn new(sites: &'a [Site]) -> Self {
        let mut makers = HashMap::new();
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, site) in sites.iter().enumerate() {
            for output in &site.node.output {
                makers.insert(output.as_str(), at);
            }
            for input in &site.node.input {
                readers.entry(input).or_default().push(at);
            }
        }
        Self {
            sites,
            makers,
            readers,
        }
    }

    fn only_reader(&self, name: &str, op: &str) -> Option<(usize, &'a Site)> {
        match self.readers.get(name)?[..] {
            [at] if self.sites[at].op() == op => Some((at, &self.sites[at])),
            _ => None,
        }
    }

    /// The product that ends in the Mul at the position returned.
    fn product(&self, site: &'a Site) -> Option<(usize, [Site; 2])> {
        let op = match site.op() {
            "ConvInteger" => "Conv",
            "MatMulInteger" => "MatMul",
            _ => return None,
        };
        let quantizer = &self.sites[*self.makers.get(site.input(0)?)?];
        if quantizer.op() != "DynamicQuantizeLinear" {
            return None;
        }
        let scale = quantizer.node.output.get(1)?;
        let (_, cast) = self.only_reader(site.output(), "Cast")?;
        let (end, mul) = self.only_reader(cast.output(), "Mul")?;
        let scales = mul.node.input.iter().find(|name| *name != cast.output())?;
        let scales = &self.sites[*self.makers.get(scales.as_str())?];
        let weight_scale = match (scales.op(), scales.input(0)?, scales.input(1)?) {
            ("Mul", a, b) if a == scale => b,
            ("Mul", a, b) if b == scale => a,
            _ => return None,
        };
        let real = format!("{}/weights", site.output());
        let weights = [
            site.input(1)?,
            weight_scale,
            site.input(3).unwrap_or_default(),
        ];
        let axis = if op == "Conv" { 0 } else { 1 };
        let dequantized = step("DequantizeLinear", &weights.map(String::from), &real, axis);
        let mut node = site.node.clone();
        node.op_type = op.into();
        node.input = vec![quantizer.input(0)?.into(), real];
        node.output = mul.node.output.clone();
        let product = Site {
            is_dynamic: true,
            ..Site::new(site.index, node)
        };
        Some((end, [Site::new(site.index, dequantized), product]))
    }
}

/// Leaves out what no output depends on.
fn live(mut sites: Vec<Site>, file: &GraphProto) -> Vec<Site> {
    let mut needed: HashSet<String> = file
        .output
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let mut is_live = vec![false; sites.len()];
    for (at, site) in sites.iter().enumerate().rev() {
        is_live[at] = site.node.output.iter().any(|name| needed.contains(name));
        if is_live[at] {
            needed.extend(site.node.input.iter().cloned());
        }
    }
    let mut at = 0;
    sites.retain(|_| {
        at += 1;
        is_live[at - 1]
    });
    sites
}
