//! Batch normalization of float models.

use super::constant::{Constant, Elements};
use super::import::{Form, Importer, View};
use super::quantize;
use super::site::Site;
use crate::error::Result;
use crate::graph::{Activation, Op, ValueId};
use crate::tensor::Shape;

/// What the file's operator adds to the variance unless it says otherwise.
const EPSILON: f32 = 1e-5;

/// BatchNormalization, `(x - mean) / sqrt(variance + epsilon) * scale + bias` for each channel, as a product and a sum.
pub(super) fn batch(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let x = importer.view(site, 0)?;
    let channels = importer.dims(&x).get(1).copied().unwrap_or(0);
    let mut lists = Vec::with_capacity(4);
    for position in 1..5 {
        let list = importer.constant(site, position)?.reals();
        let list = list.filter(|list| list.len() == channels && channels > 0);
        lists.push(list.ok_or_else(|| {
            let reason = format!("input {position} does not fit {channels} channels");
            site.damaged(importer.model, reason)
        })?);
    }
    let epsilon = match site.has("epsilon") {
        true => site.float("epsilon", EPSILON),
        false => EPSILON,
    };
    let [scale, bias, mean, variance] = [0, 1, 2, 3].map(|at| &lists[at]);
    let factors: Vec<f32> = scale
        .iter()
        .zip(variance)
        .map(|(scale, variance)| scale / (variance + epsilon).sqrt())
        .collect();
    let terms = bias
        .iter()
        .zip(mean.iter().zip(&factors))
        .map(|(bias, (mean, factor))| bias - mean * factor)
        .collect();
    let mut outcome = quantize::real_outcome(importer, site)?;
    let activation = std::mem::take(&mut outcome.activation);
    let factors = along_channels(importer, site, &x, factors, "factors")?;
    let terms = along_channels(importer, site, &x, terms, "terms")?;
    let name = format!("{}/scaled", site.output());
    let scaled = importer.emit(
        site,
        Op::Mul(Activation::None),
        vec![x.id, factors],
        &name,
        Form::Real,
        &Shape::default(),
    )?;
    let op = Op::Add(activation);
    importer.finish(
        site,
        op,
        vec![scaled, terms],
        outcome,
        x.axes,
        &Shape::default(),
    )
}

/// A constant of one element a channel, placed as the axes of `x` are stored.
fn along_channels(
    importer: &mut Importer<'_>,
    site: &Site,
    x: &View,
    values: Vec<f32>,
    role: &str,
) -> Result<ValueId> {
    let mut dims = vec![1; x.axes.len()];
    dims[x.axes[1]] = values.len();
    let constant = Constant::new(dims, Elements::F32(values));
    let name = format!("{}/{role}", site.output());
    importer.constant_value(site, &constant, &name)
}
