//! QuantizeLinear and DequantizeLinear: where codes begin and end.
//!
//! No operator of the plan comes of them between two operators on codes: what stands before a QuantizeLinear makes its
//! codes at once, with a clamp between the two as part of it.

use super::constant::{Constant, Elements};
use super::import::{Form, Importer, Operand, View};
use super::site::Site;
use crate::error::Result;
use crate::graph::{Activation, Op};
use crate::tensor::{QuantParams, Shape};

/// Operators that are looked through on the way to a QuantizeLinear.
const MAX_STEPS: usize = 8;

/// The element types of codes that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CodeType {
    U8,
    I8,
    I32,
}

/// What an operator is to make.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub form: Form,
    /// The clamp after it.
    pub activation: Activation,
    /// Name of the tensor of the file that it makes.
    pub name: String,
    /// Position of the clamp.
    clamp: Option<usize>,
}

impl Outcome {
    /// For an operator without a clamp of its own: the clamp stays an operator.
    pub fn forget_clamp(&mut self, site: &Site) {
        if self.clamp.take().is_some() {
            self.activation = Activation::None;
            self.name = site.output().to_owned();
        }
    }
}

/// Scale and zero point of a QuantizeLinear or DequantizeLinear of a tensor of rank `rank`, and the type of the codes if
/// there is a zero point.
fn parameters(
    importer: &mut Importer<'_>,
    site: &Site,
    rank: usize,
) -> Result<(QuantParams, Option<CodeType>)> {
    let model = importer.model;
    if site.int("block_size", 0) != 0 {
        let advice = "quantize the model per tensor or per channel";
        return Err(site.unsupported(model, "with blocks", advice));
    }
    let scales = importer.constant(site, 1)?;
    let zero_points = importer.optional_constant(site, 2)?;
    let Elements::F32(scales) = scales.data.clone() else {
        return Err(site.damaged(model, "its scale is no float32"));
    };
    let kind = zero_points.as_ref().map(|zero| match zero.data {
        Elements::U8(_) => Ok(CodeType::U8),
        Elements::I8(_) => Ok(CodeType::I8),
        Elements::I32(_) => Ok(CodeType::I32),
        Elements::F32(_) | Elements::I64(_) => {
            Err(site.damaged(model, "its zero point is no code"))
        }
    });
    let kind = kind.transpose()?;
    let zeros = match zero_points.and_then(|zero| zero.integers()) {
        Some(zeros) => zeros.iter().map(|&zero| zero as i32).collect(),
        None => vec![0; scales.len()],
    };
    let is_sound = |scale: &f32| scale.is_finite() && *scale > 0.0;
    if scales.is_empty() || scales.len() != zeros.len() || !scales.iter().all(is_sound) {
        return Err(site.damaged(
            model,
            "its scales are not positive numbers, or not as many as its zero points",
        ));
    }
    let axis = match scales.len() {
        1 => 0,
        _ => importer.axis(site, site.int("axis", 1), rank)?,
    };
    let quant = QuantParams {
        scales,
        zero_points: zeros,
        axis,
    };
    Ok((quant, kind))
}

/// The parameters of uint8 codes that are stored as int8.
pub(super) fn shifted(mut quant: QuantParams) -> QuantParams {
    let zeros = quant.zero_points.iter_mut();
    zeros.for_each(|zero| *zero = zero.saturating_sub(128));
    quant
}

/// The quantization of activations that a QuantizeLinear makes, as int8 codes count.
fn of_activations(importer: &mut Importer<'_>, site: &Site) -> Result<QuantParams> {
    let (quant, kind) = parameters(importer, site, 8)?;
    if quant.is_per_channel() {
        let advice = "give activations one scale and zero point each";
        return Err(site.unsupported(importer.model, "per channel on activations", advice));
    }
    match kind {
        Some(CodeType::I8) => Ok(quant),
        None if matches!(site.int("output_dtype", 0), 0 | 2) => Ok(shifted(quant)),
        None if site.int("output_dtype", 0) == 3 => Ok(quant),
        Some(CodeType::U8) => Ok(shifted(quant)),
        Some(CodeType::I32) | None => Err(site.unsupported(
            importer.model,
            "to other than 8-bit codes",
            "quantize the model to 8 bits",
        )),
    }
}

/// The quantization of 8-bit codes that are fed in, as the file counts them: of the DequantizeLinear that reads them.
/// Codes that are cast stand for themselves.
pub(super) fn after_input(importer: &mut Importer<'_>, name: &str) -> Result<Option<QuantParams>> {
    let mut name = name.to_owned();
    for _ in 0..MAX_STEPS {
        let sites = importer.sites;
        let Some(site) = importer.readers(&name).first().map(|&at| &sites[at]) else {
            return Ok(None);
        };
        match site.op() {
            "DequantizeLinear" => {
                let (quant, _) = parameters(importer, site, 8)?;
                return Ok((!quant.is_per_channel()).then_some(quant));
            }
            "Cast" => return Ok(Some(QuantParams::per_tensor(1.0, 0))),
            op if moves_only(op) => name = site.output().to_owned(),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether an operator of one data input gives out its elements in another order or shape.
fn moves_only(op: &str) -> bool {
    matches!(
        op,
        "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze" | "Identity" | "Dropout"
    )
}

/// The clamp that an operator is, if the graph has a word for it.
pub(super) fn clamp(importer: &mut Importer<'_>, site: &Site) -> Result<Option<Activation>> {
    if site.op() == "Relu" {
        return Ok(Some(Activation::Relu));
    }
    if site.op() != "Clip" {
        return Ok(None);
    }
    let mut bound = |name, position, default: f32| -> Result<Option<f32>> {
        if site.has(name) {
            return Ok(Some(site.float(name, default)));
        }
        match importer.optional_constant(site, position)? {
            None => Ok(Some(default)),
            Some(constant) => Ok(constant.scalar()),
        }
    };
    let (low, high) = (bound("min", 1, f32::MIN)?, bound("max", 2, f32::MAX)?);
    Ok(match (low, high) {
        (Some(low), Some(high)) if low <= f32::MIN && high >= f32::MAX => Some(Activation::None),
        (Some(0.0), Some(high)) if high >= f32::MAX => Some(Activation::Relu),
        (Some(0.0), Some(6.0)) => Some(Activation::Relu6),
        (Some(-1.0), Some(1.0)) => Some(Activation::ReluN1To1),
        _ => None,
    })
}

/// A real result, with the clamp that alone reads it.
pub(super) fn real_outcome(importer: &mut Importer<'_>, site: &Site) -> Result<Outcome> {
    let mut outcome = Outcome {
        form: Form::Real,
        activation: Activation::None,
        name: site.output().to_owned(),
        clamp: None,
    };
    let sites = importer.sites;
    if let &[reader] = importer.readers(site.output())
        && !importer.is_output(site.output())
        && let Some(activation) = clamp(importer, &sites[reader])?
    {
        outcome.activation = activation;
        outcome.name = sites[reader].output().to_owned();
        outcome.clamp = Some(reader);
    }
    Ok(outcome)
}

/// The outcome in codes: if all that reads an operator's result, through one clamp and through operators that only move
/// elements, quantizes it in one way.
pub(super) fn codes_outcome(importer: &mut Importer<'_>, site: &Site) -> Result<Option<Outcome>> {
    let mut outcome = Outcome {
        form: Form::Real,
        activation: Activation::None,
        name: site.output().to_owned(),
        clamp: None,
    };
    let mut at = site.output().to_owned();
    for _ in 0..MAX_STEPS {
        let sites = importer.sites;
        if importer.is_output(&at) {
            break;
        }
        let readers = importer.readers(&at).to_vec();
        let is_direct = at == outcome.name;
        if let Some(quant) = common_quantization(importer, &readers)? {
            if is_direct {
                outcome.name = sites[readers[0]].output().to_owned();
            }
            outcome.form = Form::Codes(quant);
            return Ok(Some(outcome));
        }
        let &[reader] = &readers[..] else {
            break;
        };
        let next = &sites[reader];
        if outcome.clamp.is_none()
            && let Some(activation) = clamp(importer, next)?
        {
            outcome.activation = activation;
            outcome.clamp = Some(reader);
            if is_direct {
                outcome.name = next.output().to_owned();
            }
        } else if !moves_only(next.op()) || next.input(0) != Some(at.as_str()) {
            break;
        }
        at = next.output().to_owned();
    }
    Ok(None)
}

/// The quantization by which all these operators quantize; `None` if one does otherwise or something else.
fn common_quantization(
    importer: &mut Importer<'_>,
    readers: &[usize],
) -> Result<Option<QuantParams>> {
    let sites = importer.sites;
    let mut common = None;
    for &reader in readers {
        if sites[reader].op() != "QuantizeLinear" {
            return Ok(None);
        }
        let quant = of_activations(importer, &sites[reader])?;
        if common.get_or_insert_with(|| quant.clone()) != &quant {
            return Ok(None);
        }
    }
    Ok(common)
}

impl Importer<'_> {
    /// Adds an operator that computes its `inputs`' result and names its output. Its clamp is done.
    pub fn finish(
        &mut self,
        site: &Site,
        op: Op,
        inputs: Vec<crate::graph::ValueId>,
        outcome: Outcome,
        axes: Vec<usize>,
        declared: &Shape,
    ) -> Result<()> {
        let id = self.emit(site, op, inputs, &outcome.name, outcome.form, declared)?;
        self.absorbed.extend(outcome.clamp);
        self.set(
            site,
            View {
                id,
                axes,
                is_real: true,
            },
        )
    }
}

pub(super) fn quantize_linear(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let view = match importer.input(site, 0)? {
        Operand::Constant(constant) => return quantize_constant(importer, site, &constant),
        Operand::Value(view) => view,
    };
    let quant = of_activations(importer, site)?;
    if !view.is_real {
        return Err(site.damaged(importer.model, "it quantizes codes"));
    }
    let form = Form::Codes(quant);
    let id = match importer.form(&view) == form {
        true => view.id,
        false => {
            let none = Shape::default();
            importer.emit(
                site,
                Op::Quantize,
                vec![view.id],
                site.output(),
                form,
                &none,
            )?
        }
    };
    importer.set(
        site,
        View {
            id,
            axes: view.axes,
            is_real: false,
        },
    )
}

fn quantize_constant(importer: &mut Importer<'_>, site: &Site, constant: &Constant) -> Result<()> {
    let (quant, kind) = parameters(importer, site, constant.dims.len())?;
    let Some(reals) = constant.reals() else {
        return Err(site.damaged(importer.model, "it quantizes integers"));
    };
    let inner: usize = constant.dims.iter().skip(quant.axis + 1).product();
    let channels = quant.scales.len();
    let code = |(index, real): (usize, &f32), least: i32| {
        let channel = index / inner.max(1) % channels;
        let code = f64::from((real / quant.scales[channel]).round_ties_even());
        (code as i32)
            .saturating_add(quant.zero_points[channel])
            .clamp(least, least + 255)
    };
    let pairs = reals.iter().enumerate();
    let data = match kind {
        Some(CodeType::I8) => Elements::I8(pairs.map(|pair| code(pair, -128) as i8).collect()),
        Some(CodeType::U8) | None => Elements::U8(pairs.map(|pair| code(pair, 0) as u8).collect()),
        Some(CodeType::I32) => {
            return Err(site.unsupported(
                importer.model,
                "to int32",
                "quantize the model to 8 bits",
            ));
        }
    };
    importer.set_constant(site, Constant::new(constant.dims.clone(), data))
}

pub(super) fn dequantize_linear(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let view = match importer.input(site, 0)? {
        Operand::Constant(codes) => {
            let (quant, _) = parameters(importer, site, codes.dims.len())?;
            let is_wide = matches!(codes.data, Elements::I32(_));
            if is_wide && quant.zero_points.iter().any(|&zero| zero != 0) {
                return Err(site.damaged(model, "the zero point of its int32 codes is not 0"));
            }
            if quant.is_per_channel() && codes.dims[quant.axis] != quant.scales.len() {
                return Err(site.damaged(model, "its scales do not fit its input"));
            }
            let constant =
                signed(&codes, quant).ok_or_else(|| site.damaged(model, "its input is no code"))?;
            return importer.set_constant(site, constant);
        }
        Operand::Value(view) => view,
    };
    let (quant, kind) = parameters(importer, site, view.axes.len())?;
    let (unsigned, quant) = (Form::Codes(shifted(quant.clone())), Form::Codes(quant));
    let form = importer.form(&view);
    let is_same = match kind {
        Some(CodeType::U8) => form == unsigned,
        Some(CodeType::I8) => form == quant,
        Some(CodeType::I32) => false,
        None => form == unsigned || form == quant,
    };
    if view.is_real || !is_same {
        let what = "with other parameters than those of its codes";
        return Err(site.unsupported(model, what, super::FLOAT_ADVICE));
    }
    importer.set(
        site,
        View {
            is_real: true,
            ..view
        },
    )
}

/// Constant codes as int8 or int32, with what they stand for.
fn signed(codes: &Constant, quant: QuantParams) -> Option<Constant> {
    let (data, quant) = match &codes.data {
        Elements::U8(data) => {
            let flipped = data.iter().map(|&code| (code ^ 0x80) as i8).collect();
            (Elements::I8(flipped), shifted(quant))
        }
        Elements::I8(_) | Elements::I32(_) => (codes.data.clone(), quant),
        Elements::F32(_) | Elements::I64(_) => return None,
    };
    Some(Constant {
        dims: codes.dims.clone(),
        data,
        quant: Some(quant),
    })
}
