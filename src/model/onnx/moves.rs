//! Operators that move elements and compute nothing: on constants they are folded, on values they change the view where
//! that is enough.

use super::constant::{Constant, Elements};
use super::import::{Axes, Form, Importer, Operand, View};
use super::site::Site;
use crate::error::Result;
use crate::graph::{Op, ValueId};

/// Reshape, Flatten, Squeeze and Unsqueeze.
pub(super) fn reshape(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let x = importer.input(site, 0)?;
    let dims = match &x {
        Operand::Constant(constant) => constant.dims.clone(),
        Operand::Value(view) => importer.dims(view),
    };
    let target = match site.op() {
        "Reshape" => reshape_target(importer, site, &dims)?,
        "Flatten" => {
            let position = site.int("axis", 1);
            let axis = match position == dims.len() as i64 {
                true => dims.len(),
                false => importer.axis(site, position, dims.len())?,
            };
            vec![dims[..axis].iter().product(), dims[axis..].iter().product()]
        }
        "Squeeze" => squeezed(importer, site, dims)?,
        _ => unsqueezed(importer, site, dims)?,
    };
    match x {
        Operand::Constant(constant) => match constant.reshaped(target) {
            Some(reshaped) => importer.set_constant(site, reshaped),
            None => Err(site.damaged(importer.model, "its shapes have not the same elements")),
        },
        Operand::Value(view) => reshape_value(importer, site, &view, target),
    }
}

/// A value under other dimensions. Its axes take the file's order first.
fn reshape_value(
    importer: &mut Importer<'_>,
    site: &Site,
    x: &View,
    target: Vec<usize>,
) -> Result<()> {
    if importer.dims(x) == target {
        return importer.set(site, x.clone());
    }
    let axes: Axes = (0..target.len()).collect();
    let declared = importer.shape(site, target)?;
    let id = importer.canonical(site, x)?;
    importer.keep(site, Op::Reshape, x, id, axes, &declared)
}

/// Resolves 0, which keeps a dimension, and the one -1.
fn reshape_target(importer: &mut Importer<'_>, site: &Site, dims: &[usize]) -> Result<Vec<usize>> {
    let model = importer.model;
    let requested = importer.setting(site, "shape", 1)?.unwrap_or_default();
    let wrong = || {
        site.damaged(
            model,
            format!("its target shape is {:.99}", format!("{requested:?}")),
        )
    };
    let keeps = site.int("allowzero", 0) == 0;
    let mut open = None;
    let mut target = Vec::with_capacity(requested.len().min(8));
    for (i, &dim) in requested.iter().enumerate() {
        target.push(match dim {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 if keeps => *dims.get(i).ok_or_else(wrong)?,
            dim => usize::try_from(dim)
                .ok()
                .filter(|&dim| dim > 0)
                .ok_or_else(wrong)?,
        });
    }
    let known = target
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let known = known.ok_or_else(wrong)?;
    let elements: usize = dims.iter().product();
    match open {
        Some(open) if known > 0 && elements.is_multiple_of(known) => {
            target[open] = elements / known
        }
        None if known == elements => {}
        _ => return Err(wrong()),
    }
    Ok(target)
}

fn squeezed(importer: &mut Importer<'_>, site: &Site, dims: Vec<usize>) -> Result<Vec<usize>> {
    let axes = importer.setting(site, "axes", 1)?;
    let axes: Option<Vec<usize>> = axes
        .map(|axes| {
            axes.into_iter()
                .map(|axis| importer.axis(site, axis, dims.len()))
                .collect()
        })
        .transpose()?;
    if let Some(axis) = axes.iter().flatten().find(|&&axis| dims[axis] != 1) {
        return Err(site.damaged(
            importer.model,
            format!("it drops axis {axis} of shape {dims:?}"),
        ));
    }
    let kept = |axis: &usize| match &axes {
        Some(axes) => !axes.contains(axis),
        None => dims[*axis] != 1,
    };
    Ok((0..dims.len())
        .filter(kept)
        .map(|axis| dims[axis])
        .collect())
}

fn unsqueezed(importer: &mut Importer<'_>, site: &Site, dims: Vec<usize>) -> Result<Vec<usize>> {
    let axes = importer.setting(site, "axes", 1)?.unwrap_or_default();
    let rank = dims.len().saturating_add(axes.len());
    let axes: Vec<usize> = axes
        .into_iter()
        .map(|axis| importer.axis(site, axis, rank))
        .collect::<Result<_>>()?;
    let mut rest = dims.into_iter();
    let target = (0..rank).map(|axis| match axes.contains(&axis) {
        true => Some(1),
        false => rest.next(),
    });
    let target: Option<Vec<usize>> = target.collect();
    target.ok_or_else(|| site.damaged(importer.model, "it inserts an axis twice"))
}

/// Transpose: nothing moves, the view changes.
pub(super) fn transpose(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let x = importer.input(site, 0)?;
    let rank = match &x {
        Operand::Constant(constant) => constant.dims.len(),
        Operand::Value(view) => view.axes.len(),
    };
    let order: Option<Vec<usize>> = match site.ints("perm") {
        Some(perm) => perm
            .iter()
            .map(|&axis| usize::try_from(axis).ok())
            .collect(),
        None => Some((0..rank).rev().collect()),
    };
    let is_permutation = |order: &Vec<usize>| {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..rank)
    };
    let order = order.filter(is_permutation).ok_or_else(|| {
        site.damaged(
            importer.model,
            format!("its perm is no order of {rank} axes"),
        )
    })?;
    match x {
        Operand::Constant(constant) => importer.set_constant(site, constant.permuted(&order)),
        Operand::Value(view) => {
            let axes = order.iter().map(|&axis| view.axes[axis]).collect();
            importer.set(site, View { axes, ..view })
        }
    }
}

/// What a slice takes of one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    begin: i64,
    /// Exclusive; -1 where the walk back includes the first element.
    end: i64,
    step: i64,
}

impl Cut {
    /// Clamps as ONNX does: `begin` and `end` may count from the end and leave the axis.
    fn new(size: usize, begin: i64, end: i64, step: i64) -> Self {
        let size = size as i64;
        let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        match step > 0 {
            true => Self {
                begin: from_end(begin).clamp(0, size),
                end: from_end(end).clamp(0, size),
                step,
            },
            false => Self {
                begin: from_end(begin).clamp(0, size - 1),
                end: from_end(end).clamp(-1, size - 1),
                step,
            },
        }
    }

    fn length(&self) -> usize {
        crate::graph::shape::slice_length(self.begin, self.end, self.step)
    }
}

/// Adds a slice along one axis of the file.
fn slice_value(
    importer: &mut Importer<'_>,
    site: &Site,
    x: &View,
    cuts: &[(usize, Cut)],
    name: &str,
) -> Result<ValueId> {
    let mut dims = importer.graph.shape(x.id).dims().to_vec();
    let mut begin = vec![0; dims.len()];
    let mut end: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
    let mut stride = vec![1; dims.len()];
    for &(axis, cut) in cuts {
        let stored = x.axes[axis];
        (begin[stored], end[stored], stride[stored]) = (cut.begin, cut.end, cut.step);
        dims[stored] = cut.length();
    }
    let declared = importer.shape(site, dims)?;
    let form = importer.form(x);
    importer.emit(
        site,
        Op::StridedSlice { begin, end, stride },
        vec![x.id],
        name,
        form,
        &declared,
    )
}

pub(super) fn slice(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let x = importer.input(site, 0)?;
    let missing = |what: &str| site.damaged(model, format!("it has no {what}"));
    let begins = importer
        .setting(site, "starts", 1)?
        .ok_or_else(|| missing("starts"))?;
    let ends = importer
        .setting(site, "ends", 2)?
        .ok_or_else(|| missing("ends"))?;
    let axes = importer.setting(site, "axes", 3)?;
    let steps = importer.integers(site, 4)?;
    let dims = match &x {
        Operand::Constant(constant) => constant.dims.clone(),
        Operand::Value(view) => importer.dims(view),
    };
    let mut cuts = Vec::new();
    for (i, (&begin, &end)) in begins.iter().zip(&ends).enumerate() {
        let axis = axes
            .as_ref()
            .map_or(Some(i as i64), |axes| axes.get(i).copied());
        let step = steps
            .as_ref()
            .map_or(Some(1), |steps| steps.get(i).copied());
        let (Some(axis), Some(step)) = (axis, step.filter(|&step| step != 0)) else {
            return Err(site.damaged(model, "its axes or steps do not fit its starts"));
        };
        let axis = importer.axis(site, axis, dims.len())?;
        cuts.push((axis, Cut::new(dims[axis], begin, end, step)));
    }
    match x {
        Operand::Value(view) => {
            let id = slice_value(importer, site, &view, &cuts, site.output())?;
            importer.set(site, View { id, ..view })
        }
        Operand::Constant(constant) => match (&constant.dims[..], &cuts[..]) {
            ([_], &[(0, cut)]) => {
                let at = (0..cut.length() as i64).map(|i| (cut.begin + i * cut.step) as usize);
                let positions: Vec<usize> = at.collect();
                let data = constant.data.take(&positions);
                importer.set_constant(site, Constant::new(vec![positions.len()], data))
            }
            _ => {
                Err(site.unsupported(model, "of a constant table", "fold constants before export"))
            }
        },
    }
}

/// Split into parts of any sizes.
pub(super) fn split(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let x = importer.view(site, 0)?;
    let dims = importer.dims(&x);
    let axis = importer.axis(site, site.int("axis", 0), dims.len())?;
    let parts = site.node.output.len();
    let sizes: Vec<i64> = match importer.setting(site, "split", 1)? {
        Some(sizes) => sizes,
        None => {
            let size = dims[axis].div_ceil(parts.max(1));
            let size_of = |part: usize| dims[axis].saturating_sub(part * size).min(size) as i64;
            (0..parts).map(size_of).collect()
        }
    };
    let is_sound = sizes.len() == parts && sizes.iter().all(|&size| size > 0);
    if !is_sound
        || sizes.iter().copied().try_fold(0i64, i64::checked_add) != Some(dims[axis] as i64)
    {
        return Err(site.damaged(
            importer.model,
            format!("its parts do not fill axis {axis} of shape {dims:?}"),
        ));
    }
    let mut begin = 0;
    for (part, size) in sizes.into_iter().enumerate() {
        let cut = Cut {
            begin,
            end: begin + size,
            step: 1,
        };
        let name = site.node.output[part].clone();
        let id = slice_value(importer, site, &x, &[(axis, cut)], &name)?;
        importer.define(site, part, Operand::Value(View { id, ..x.clone() }))?;
        begin += size;
    }
    Ok(())
}

/// Gather by constant positions: of a constant along its only axis, of a value one place.
pub(super) fn gather(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let positions = importer.constant(site, 1)?;
    let integers = positions.integers().unwrap_or_default();
    match importer.input(site, 0)? {
        Operand::Constant(constant) if constant.dims.len() == 1 => {
            let size = constant.dims[0];
            let resolved: Result<Vec<usize>> = integers
                .iter()
                .map(|&at| importer.axis(site, at, size))
                .collect();
            let data = constant.data.take(&resolved?);
            importer.set_constant(site, Constant::new(positions.dims.clone(), data))
        }
        Operand::Value(view) if positions.dims.is_empty() && integers.len() == 1 => {
            let dims = importer.dims(&view);
            let axis = importer.axis(site, site.int("axis", 0), dims.len())?;
            let begin = importer.axis(site, integers[0], dims[axis])? as i64;
            let cut = Cut {
                begin,
                end: begin + 1,
                step: 1,
            };
            let name = format!("{}/slice", site.output());
            let id = slice_value(importer, site, &view, &[(axis, cut)], &name)?;
            let mut target = dims;
            target.remove(axis);
            reshape_value(importer, site, &View { id, ..view }, target)
        }
        _ => Err(site.unsupported(model, "of several places", importer.advice())),
    }
}

/// Pad with zeros.
pub(super) fn pad(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let x = importer.view(site, 0)?;
    if !matches!(site.text("mode"), "" | "constant") {
        return Err(site.unsupported(model, "with other than constants", "pad with zeros"));
    }
    let pads = importer.setting(site, "pads", 1)?.unwrap_or_default();
    let value = importer.optional_constant(site, 2)?;
    let is_zero = match (&value, importer.form(&x), x.is_real) {
        (None, Form::Codes(_), false) => false,
        (None, ..) => site.float("value", 0.0) == 0.0,
        (Some(value), Form::Codes(quant), false) => {
            let code = value.integers().unwrap_or_default();
            let shift = if matches!(value.data, Elements::U8(_)) {
                128
            } else {
                0
            };
            matches!(code[..], [code] if code - shift == i64::from(quant.zero_point()))
        }
        (Some(value), ..) => value.scalar() == Some(0.0),
    };
    if !is_zero {
        return Err(site.unsupported(model, "with another value than 0", "pad with zeros"));
    }
    let rank = x.axes.len();
    let axes = match importer.integers(site, 3)? {
        Some(axes) => axes
            .into_iter()
            .map(|axis| importer.axis(site, axis, rank))
            .collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(site.damaged(model, "its pads do not fit its axes"));
    }
    let count = |pad: i64| {
        let count = u32::try_from(pad).map(|count| count as usize);
        count.map_err(|_| {
            site.unsupported(
                model,
                &format!("by {pad}"),
                "export the model without negative pads",
            )
        })
    };
    let mut stored = vec![[0, 0]; rank];
    for (i, &axis) in axes.iter().enumerate() {
        stored[x.axes[axis]] = [count(pads[i])?, count(pads[axes.len() + i])?];
    }
    let op = Op::Pad { pads: stored };
    let (id, axes) = (x.id, x.axes.clone());
    importer.keep(site, op, &x, id, axes, &crate::tensor::Shape::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_clamp_as_onnx_says() {
        let cut = |begin, end, step| {
            let cut = Cut::new(5, begin, end, step);
            (cut.begin, cut.end, cut.length())
        };
        assert_eq!(cut(1, i64::MAX, 1), (1, 5, 4));
        assert_eq!(cut(-2, 99, 1), (3, 5, 2));
        assert_eq!(cut(-1, i64::MIN, -1), (4, -1, 5));
        assert_eq!(cut(9, -9, -2), (4, -1, 3));
        assert_eq!(cut(3, 1, 1).2, 0);
    }
}
