//! One arm for each operator of ONNX that the graph has a word for.

use super::constant::{self, Constant, Elements};
use super::import::{Axes, Form, Importer, Operand, View};
use super::site::Site;
use super::{fold, moves, normalization, products, quantize, windows};
use crate::error::Result;
use crate::graph::{Activation, Op};
use crate::tensor::Shape;

/// The newest version of the operator set whose meanings are known.
pub(super) const NEWEST_OPSET: i64 = 25;

/// Imports one operator.
pub(super) fn import(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    match site.node.domain.as_str() {
        "" | "ai.onnx" | "com.microsoft" => {}
        domain => {
            let what = format!("of the operator set {domain:.80}");
            return Err(site.unsupported(importer.model, &what, importer.advice()));
        }
    }
    match site.op() {
        "QuantizeLinear" => quantize::quantize_linear(importer, site),
        "DequantizeLinear" => quantize::dequantize_linear(importer, site),
        "Conv" => products::conv(importer, site),
        "Gemm" | "MatMul" => products::matrix_product(importer, site),
        "Add" | "Sub" | "Mul" | "Div" => binary(importer, site),
        "Concat" => concat(importer, site),
        "MaxPool" | "AveragePool" => windows::pool(importer, site),
        "GlobalAveragePool" | "ReduceMean" => mean(importer, site),
        "Resize" | "Upsample" => windows::resize(importer, site),
        "Relu" | "Clip" => clamp(importer, site),
        "Sigmoid" => unary(importer, site, Op::Logistic),
        "HardSwish" => unary(importer, site, Op::HardSwish),
        "Softmax" => softmax(importer, site),
        "ArgMax" => arg_max(importer, site),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => moves::reshape(importer, site),
        "Transpose" => moves::transpose(importer, site),
        "Slice" => moves::slice(importer, site),
        "Split" => moves::split(importer, site),
        "Gather" => moves::gather(importer, site),
        "Pad" => moves::pad(importer, site),
        "Identity" | "Dropout" => {
            let x = importer.input(site, 0)?;
            importer.define(site, 0, x)
        }
        "Cast" => cast(importer, site),
        "Constant" => constant(importer, site),
        "Shape" => {
            let x = importer.view(site, 0)?;
            let dims = importer.dims(&x);
            let sizes = dims.iter().map(|&dim| dim as i64).collect();
            importer.set_constant(site, Constant::new(vec![dims.len()], Elements::I64(sizes)))
        }
        "BatchNormalization" if importer.is_float => normalization::batch(importer, site),
        "BatchNormalization" => Err(site.unsupported(
            importer.model,
            "in a quantized model",
            "fold it into the convolution before it (`python -m onnxruntime.quantization.preprocess`) and quantize again",
        )),
        _ => Err(site.unsupported(importer.model, importer.kind(), importer.advice())),
    }
}

/// An operator of one element at a time.
fn unary(importer: &mut Importer<'_>, site: &Site, op: Op) -> Result<()> {
    let x = importer.view(site, 0)?;
    let axes = x.axes.clone();
    element_wise(importer, site, op, &x, axes)
}

/// In codes if `x` is and the result is to be, else in real values.
fn element_wise(
    importer: &mut Importer<'_>,
    site: &Site,
    op: Op,
    x: &View,
    axes: Axes,
) -> Result<()> {
    let codes = match importer.form(x) {
        Form::Codes(_) => quantize::codes_outcome(importer, site)?,
        Form::Real => None,
    };
    let codes = codes.filter(|outcome| outcome.activation == Activation::None);
    let (x, outcome) = match codes {
        Some(outcome) => (x.clone(), outcome),
        None => {
            let mut outcome = quantize::real_outcome(importer, site)?;
            outcome.forget_clamp(site);
            (importer.as_real(site, x)?, outcome)
        }
    };
    importer.finish(site, op, vec![x.id], outcome, axes, &Shape::default())
}

/// Relu and Clip that are not part of the operator before. On codes they keep the scale unless the next asks for another.
fn clamp(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let Some(activation) = quantize::clamp(importer, site)? else {
        let advice = "export the model with Relu, or with Clip from 0 to 6";
        return Err(site.unsupported(importer.model, "with such bounds", advice));
    };
    let x = importer.view(site, 0)?;
    let op = Op::Activation(activation);
    match importer.form(&x) {
        Form::Codes(_) => {
            let (id, axes) = (x.id, x.axes.clone());
            importer.keep(site, op, &x, id, axes, &Shape::default())
        }
        Form::Real => unary(importer, site, op),
    }
}

/// Softmax. Up to version 12 it takes the axis and all after it for one.
fn softmax(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let x = importer.view(site, 0)?;
    let dims = importer.dims(&x);
    let is_old = importer.opset < 13;
    let axis = importer.axis(
        site,
        site.int("axis", if is_old { 1 } else { -1 }),
        dims.len(),
    )?;
    let op = Op::Softmax { beta: 1.0 };
    if is_old && dims[axis + 1..].iter().any(|&dim| dim != 1) {
        let advice = "export the model with an operator set of 13 or later";
        return Err(site.unsupported(importer.model, "over several axes", advice));
    }
    // The axis last, the others in their order.
    let last = dims.len() - 1;
    let axes: Axes = match x.axes[axis] == last {
        true => x.axes.clone(),
        false => (0..dims.len())
            .map(|at| match at.cmp(&axis) {
                std::cmp::Ordering::Less => at,
                std::cmp::Ordering::Equal => last,
                std::cmp::Ordering::Greater => at - 1,
            })
            .collect(),
    };
    let id = importer.stored(site, &x, &axes)?;
    let moved = View {
        id,
        axes: axes.clone(),
        is_real: x.is_real,
    };
    element_wise(importer, site, op, &moved, axes)
}

fn mean(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let x = importer.view(site, 0)?;
    let rank = x.axes.len();
    let (axes, keeps) = match site.op() {
        "GlobalAveragePool" => (Some((2..rank as i64).collect()), true),
        _ => (
            importer.setting(site, "axes", 1)?,
            site.int("keepdims", 1) != 0,
        ),
    };
    let axes = match axes.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes
            .into_iter()
            .map(|axis| importer.axis(site, axis, rank))
            .collect::<Result<Vec<_>>>()?,
        None if site.int("noop_with_empty_axes", 0) != 0 => return importer.set(site, x),
        None => (0..rank).collect(),
    };
    windows::mean(importer, site, &x, &axes, keeps)
}

fn arg_max(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let x = importer.view(site, 0)?;
    let dims = importer.dims(&x);
    let axis = importer.axis(site, site.int("axis", 0), dims.len())?;
    if site.int("select_last_index", 0) != 0 {
        return Err(site.unsupported(
            importer.model,
            "of the last of equals",
            "take the first of equals",
        ));
    }
    if site.int("keepdims", 1) != 0 {
        return Err(site.unsupported(
            importer.model,
            "that keeps its axis",
            "export it with keepdims of 0",
        ));
    }
    let id = importer.canonical(site, &x)?;
    let none = Shape::default();
    let found = importer.emit(
        site,
        Op::ArgMax { axis },
        vec![id],
        site.output(),
        Form::Real,
        &none,
    )?;
    importer.set(
        site,
        View {
            id: found,
            axes: (0..dims.len() - 1).collect(),
            is_real: true,
        },
    )
}

/// Casts of constants to integers are folded; 8-bit codes that are fed in become the real values they show.
fn cast(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    const FLOAT: i64 = 1;
    const INT32: i64 = 6;
    const INT64: i64 = 7;
    let model = importer.model;
    let to = site.int("to", 0);
    let refuse = || {
        site.unsupported(
            model,
            &format!("to type {to}"),
            "export the model with float32 values",
        )
    };
    match importer.input(site, 0)? {
        Operand::Constant(constant) => match (to, constant.integers(), &constant.data) {
            (INT64, Some(integers), _) => importer.set_constant(
                site,
                Constant::new(constant.dims.clone(), Elements::I64(integers)),
            ),
            (INT32, Some(integers), _) => {
                let narrow: Option<Vec<i32>> =
                    integers.iter().map(|&i| i32::try_from(i).ok()).collect();
                let narrow = narrow
                    .ok_or_else(|| site.damaged(model, "an integer is too large for its type"))?;
                importer.set_constant(
                    site,
                    Constant::new(constant.dims.clone(), Elements::I32(narrow)),
                )
            }
            (FLOAT, Some(integers), _) => {
                let reals = integers.iter().map(|&i| i as f32).collect();
                importer.set_constant(
                    site,
                    Constant::new(constant.dims.clone(), Elements::F32(reals)),
                )
            }
            (FLOAT, None, Elements::F32(_)) => {
                importer.set_constant(site, Constant::clone(&constant))
            }
            _ => Err(refuse()),
        },
        Operand::Value(view) if to == FLOAT && view.is_real => importer.set(site, view),
        Operand::Value(view) if to == FLOAT => match importer.form(&view) {
            Form::Codes(quant)
                if quant.scale() == 1.0 && matches!(quant.zero_point(), 0 | -128) =>
            {
                importer.set(
                    site,
                    View {
                        is_real: true,
                        ..view
                    },
                )
            }
            _ => Err(refuse()),
        },
        Operand::Value(_) => Err(refuse()),
    }
}

fn constant(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let constant = if let Some(tensor) = site.tensor("value") {
        constant::read(tensor).map_err(|reason| site.damaged(importer.model, reason))?
    } else if let Some(values) = site.ints("value_ints") {
        Constant::new(vec![values.len()], Elements::I64(values.to_vec()))
    } else if let Some(values) = site.floats("value_floats") {
        Constant::new(vec![values.len()], Elements::F32(values.to_vec()))
    } else if site.has("value_int") {
        Constant::new(vec![], Elements::I64(vec![site.int("value_int", 0)]))
    } else if site.has("value_float") {
        Constant::new(vec![], Elements::F32(vec![site.float("value_float", 0.0)]))
    } else {
        return Err(site.unsupported(
            importer.model,
            "of such a type",
            "export the model with tensors of numbers",
        ));
    };
    importer.set_constant(site, constant)
}

/// Add, Sub, Mul and Div.
fn binary(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let (a, b) = match (importer.input(site, 0)?, importer.input(site, 1)?) {
        (Operand::Constant(a), Operand::Constant(b)) => {
            let folded = fold::binary(site.op(), &a, &b);
            let folded = folded.ok_or_else(|| {
                site.unsupported(
                    importer.model,
                    "of two such constants",
                    "fold constants before export",
                )
            })?;
            return importer.set_constant(site, folded);
        }
        (a, b) => (a, b),
    };
    let b = match (site.op(), b) {
        ("Div", Operand::Constant(b)) => {
            Operand::Constant(fold::reciprocal(&b).ok_or_else(|| {
                site.unsupported(importer.model, "by such a constant", importer.advice())
            })?)
        }
        ("Div", Operand::Value(_)) => {
            let advice = importer.advice();
            return Err(site.unsupported(importer.model, "of two computed tensors", advice));
        }
        (_, b) => b,
    };
    let op: fn(Activation) -> Op = match site.op() {
        "Add" => Op::Add,
        "Sub" => Op::Sub,
        _ => Op::Mul,
    };
    let views = aligned(importer, site, [a, b])?;
    let are_codes = views
        .iter()
        .all(|view| matches!(importer.form(view), Form::Codes(_)));
    let codes = match are_codes {
        true => quantize::codes_outcome(importer, site)?,
        false => None,
    };
    let axes = views[0].axes.clone();
    let (views, outcome) = match codes {
        Some(outcome) => (views, outcome),
        None => {
            let [a, b] = &views;
            let views = [importer.as_real(site, a)?, importer.as_real(site, b)?];
            (views, quantize::real_outcome(importer, site)?)
        }
    };
    let ids = views.iter().map(|view| view.id).collect();
    importer.finish(
        site,
        op(outcome.activation),
        ids,
        outcome,
        axes,
        &Shape::default(),
    )
}

/// Both operands with the same rank and their axes in the same places: those of the larger value.
fn aligned(importer: &mut Importer<'_>, site: &Site, operands: [Operand; 2]) -> Result<[View; 2]> {
    let dims = |importer: &Importer<'_>, operand: &Operand| match operand {
        Operand::Constant(constant) => constant.dims.clone(),
        Operand::Value(view) => importer.dims(view),
    };
    let rank = operands
        .iter()
        .map(|operand| dims(importer, operand).len())
        .max()
        .unwrap_or(0);
    let size = |operand: &Operand| match operand {
        Operand::Constant(_) => (0, 0),
        Operand::Value(view) => (view.axes.len(), importer.graph.shape(view.id).elements()),
    };
    let larger = usize::from(size(&operands[1]) > size(&operands[0]));
    let axes = match &operands[larger] {
        Operand::Value(view) if view.axes.len() == rank => view.axes.clone(),
        _ => (0..rank).collect(),
    };
    let [a, b] = operands;
    Ok([
        placed(importer, site, a, &axes)?,
        placed(importer, site, b, &axes)?,
    ])
}

/// An operand with leading dimensions of one element up to the rank, its axes where `axes` says.
fn placed(importer: &mut Importer<'_>, site: &Site, operand: Operand, axes: &Axes) -> Result<View> {
    let rank = axes.len();
    let id = match operand {
        Operand::Constant(constant) => {
            let dims = leading_ones(&constant.dims, rank);
            let mut order = vec![0; rank];
            axes.iter()
                .enumerate()
                .for_each(|(axis, &at)| order[at] = axis);
            let arranged = constant
                .reshaped(dims)
                .map(|constant| constant.permuted(&order));
            let arranged = arranged.ok_or_else(|| {
                site.damaged(importer.model, "its constant has an impossible shape")
            })?;
            return Ok(View {
                axes: axes.clone(),
                ..importer.constant_view(site, &arranged)?
            });
        }
        Operand::Value(view) if view.axes.len() == rank => importer.stored(site, &view, axes)?,
        Operand::Value(view) => {
            let declared = importer.shape(site, leading_ones(&importer.dims(&view), rank))?;
            let canonical = importer.canonical(site, &view)?;
            let (form, name) = (importer.form(&view), format!("{}/wide", site.output()));
            let id = importer.emit(site, Op::Reshape, vec![canonical], &name, form, &declared)?;
            let wide = View {
                id,
                axes: (0..rank).collect(),
                is_real: true,
            };
            importer.stored(site, &wide, axes)?
        }
    };
    Ok(View {
        id,
        axes: axes.clone(),
        is_real: true,
    })
}

fn leading_ones(dims: &[usize], rank: usize) -> Vec<usize> {
    let missing = rank.saturating_sub(dims.len());
    std::iter::repeat_n(1, missing)
        .chain(dims.iter().copied())
        .collect()
}

/// Concat. Codes of one scale are joined as they are; of several, in the scale that the result is to have.
fn concat(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let mut operands = Vec::new();
    for position in 0..site.node.input.len() {
        operands.push(importer.input(site, position)?);
    }
    let is_constant = |operand: &Operand| matches!(operand, Operand::Constant(_));
    if operands.iter().all(is_constant) {
        let parts = operands.iter().filter_map(|operand| match operand {
            Operand::Constant(constant) => Some(constant.as_ref()),
            Operand::Value(_) => None,
        });
        let joined = fold::concat(parts).ok_or_else(|| {
            site.unsupported(
                importer.model,
                "of such constants",
                "fold constants before export",
            )
        })?;
        return importer.set_constant(site, joined);
    }
    let mut views = Vec::new();
    for position in 0..operands.len() {
        views.push(importer.view(site, position)?);
    }
    let value = operands
        .iter()
        .position(|operand| !is_constant(operand))
        .unwrap_or(0);
    let (axes, is_real) = (views[value].axes.clone(), views[value].is_real);
    let axis = importer.axis(site, site.int("axis", 0), axes.len())?;
    if views.iter().any(|view| view.axes.len() != axes.len()) {
        return Err(site.damaged(importer.model, "its inputs have not the same rank"));
    }
    let forms: Vec<Form> = views.iter().map(|view| importer.form(view)).collect();
    let are_codes = forms.iter().all(|form| *form != Form::Real);
    let codes = match are_codes && is_real {
        true => quantize::codes_outcome(importer, site)?,
        false => None,
    };
    let codes = codes.filter(|outcome| outcome.activation == Activation::None);
    let form = match codes {
        Some(outcome) => outcome.form,
        None if are_codes && forms.iter().all(|form| *form == forms[0]) => forms[0].clone(),
        None => Form::Real,
    };
    let mut ids = Vec::new();
    for view in &views {
        let view = match form {
            Form::Real => importer.as_real(site, view)?,
            Form::Codes(_) => view.clone(),
        };
        ids.push(importer.stored(site, &view, &axes)?);
    }
    let op = Op::Concat { axis: axes[axis] };
    let id = importer.emit(site, op, ids, site.output(), form, &Shape::default())?;
    importer.set(site, View { id, axes, is_real })
}
