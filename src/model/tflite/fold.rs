//! Arithmetic on shapes is done at import, so that no operator on int32 constants is left in the graph.

use tract_tflite::tflite::BuiltinOperator as B;

use super::constants::saturate;
use super::import::{Importer, Site};
use super::slices;
use crate::error::Result;
use crate::tensor::{DType, Shape, TensorData};

/// The largest constant that is folded: shapes, not data.
const MAX_ELEMENTS: usize = 4096;

/// A constant of integers.
struct Integers {
    shape: Shape,
    data: Vec<i32>,
}

/// Computes the operator if it only rearranges or computes with constant integers; false if it is another one.
pub(super) fn fold<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<bool> {
    let result = match site.builtin {
        B::SHAPE => Some(shape_of(importer, site)?),
        B::STRIDED_SLICE
        | B::SLICE
        | B::PACK
        | B::CONCATENATION
        | B::GATHER
        | B::ADD
        | B::SUB
        | B::MUL
        | B::MAXIMUM
        | B::MINIMUM
        | B::REDUCE_PROD
        | B::CAST => match constant_inputs(importer, site)? {
            Some(inputs) => compute(importer, site, &inputs)?,
            None => None,
        },
        _ => None,
    };
    let Some(result) = result else {
        return Ok(false);
    };
    importer.make_constant(site, result.shape, TensorData::I32(result.data))?;
    Ok(true)
}

fn shape_of<'a>(importer: &mut Importer<'a>, site: &Site<'a>) -> Result<Integers> {
    let x = importer.input(site, 0)?;
    let dims = importer.shape(x).dims().iter();
    let data: Vec<i32> = dims.map(|&dim| saturate(dim as i64)).collect();
    Ok(Integers {
        shape: Shape::from([data.len()]),
        data,
    })
}

/// All inputs, if they are small constants of integers.
fn constant_inputs<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
) -> Result<Option<Vec<Integers>>> {
    let ids = importer.inputs(site)?;
    let graph = importer.graph();
    let small = |id: &_| graph.shape(*id).elements() <= MAX_ELEMENTS;
    if ids.is_empty()
        || !ids
            .iter()
            .all(|id| graph.dtype(*id) == DType::I32 && small(id))
    {
        return Ok(None);
    }
    let integers = ids.iter().map(|id| match graph.constant(*id) {
        Some(TensorData::I32(data)) => Some(Integers {
            shape: graph.shape(*id).clone(),
            data: data.clone(),
        }),
        _ => None,
    });
    Ok(integers.collect())
}

fn vector(data: Vec<i32>) -> Option<Integers> {
    (!data.is_empty() && data.len() <= MAX_ELEMENTS).then(|| Integers {
        shape: Shape::from([data.len()]),
        data,
    })
}

fn compute<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
    inputs: &[Integers],
) -> Result<Option<Integers>> {
    let first = &inputs[0];
    let rank = first.shape.rank();
    Ok(match site.builtin {
        B::STRIDED_SLICE | B::SLICE if rank == 1 => sliced(importer, site, first)?,
        B::PACK if inputs.iter().all(|input| input.shape == first.shape) && rank < 8 => {
            packed(site, inputs)
        }
        B::CONCATENATION if inputs.iter().all(|input| input.shape.rank() == 1) => vector(
            inputs
                .iter()
                .flat_map(|input| &input.data)
                .copied()
                .collect(),
        ),
        B::GATHER if rank == 1 && inputs.len() == 2 => gathered(first, &inputs[1]),
        B::ADD => elementwise(inputs, i64::checked_add),
        B::SUB => elementwise(inputs, i64::checked_sub),
        B::MUL => elementwise(inputs, i64::checked_mul),
        B::MAXIMUM => elementwise(inputs, |a, b| Some(a.max(b))),
        B::MINIMUM => elementwise(inputs, |a, b| Some(a.min(b))),
        B::REDUCE_PROD if rank == 1 => product(site, first),
        B::CAST => Some(Integers {
            shape: first.shape.clone(),
            data: first.data.clone(),
        }),
        _ => None,
    })
}

fn sliced<'a>(
    importer: &mut Importer<'a>,
    site: &Site<'a>,
    x: &Integers,
) -> Result<Option<Integers>> {
    let id = importer.input(site, 0)?;
    let slice = slices::resolve(importer, site, id)?;
    let (begin, end, stride) = (slice.begin[0], slice.end[0], slice.stride[0]);
    let length = crate::graph::shape::slice_length(begin, end, stride);
    if length == 0 || length > x.data.len() {
        return Ok(None);
    }
    let data: Option<Vec<i32>> = (0..length as i64)
        .map(|i| {
            let index = begin.checked_add(i.checked_mul(stride)?)?;
            x.data.get(usize::try_from(index).ok()?).copied()
        })
        .collect();
    let shape = Shape::checked(slice.shape);
    Ok(data
        .zip(shape)
        .map(|(data, shape)| Integers { shape, data }))
}

/// Along axis 0 only.
fn packed(site: &Site<'_>, inputs: &[Integers]) -> Option<Integers> {
    let options = site.operator.builtin_options_as_pack_options();
    let axis = options.map_or(0, |options| options.axis());
    let rank = inputs[0].shape.rank() as i64;
    if axis != 0 && i64::from(axis) != -rank - 1 {
        return None;
    }
    let mut dims = vec![inputs.len()];
    dims.extend(inputs[0].shape.dims());
    let shape = Shape::checked(dims).filter(|shape| shape.elements() <= MAX_ELEMENTS)?;
    let data = inputs
        .iter()
        .flat_map(|input| &input.data)
        .copied()
        .collect();
    Some(Integers { shape, data })
}

fn gathered(x: &Integers, indices: &Integers) -> Option<Integers> {
    let pick = |&index: &i32| x.data.get(usize::try_from(index).ok()?).copied();
    let data: Option<Vec<i32>> = indices.data.iter().map(pick).collect();
    data.map(|data| Integers {
        shape: indices.shape.clone(),
        data,
    })
}

/// Equal shapes, or a single element with a vector or scalar. A result outside int32 is not folded.
fn elementwise(inputs: &[Integers], operation: fn(i64, i64) -> Option<i64>) -> Option<Integers> {
    let [a, b] = inputs else {
        return None;
    };
    let single = a.data.len() == 1 || b.data.len() == 1;
    if a.shape != b.shape && !(single && a.shape.rank().max(b.shape.rank()) <= 1) {
        return None;
    }
    let shape = crate::graph::shape::broadcast(&a.shape, &b.shape).ok()?;
    let at = |x: &Integers, i: usize| x.data.get(if x.data.len() == 1 { 0 } else { i }).copied();
    let data: Option<Vec<i32>> = (0..shape.elements())
        .map(|i| operation(at(a, i)?.into(), at(b, i)?.into()).and_then(|v| i32::try_from(v).ok()))
        .collect();
    data.map(|data| Integers { shape, data })
}

fn product(site: &Site<'_>, x: &Integers) -> Option<Integers> {
    let options = site.operator.builtin_options_as_reducer_options();
    let keep = options.is_some_and(|options| options.keep_dims());
    let product = x
        .data
        .iter()
        .try_fold(1i32, |sum, &value| sum.checked_mul(value))?;
    Some(Integers {
        shape: if keep {
            Shape::from([1])
        } else {
            Shape::default()
        },
        data: vec![product],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(data: &[i32]) -> Integers {
        Integers {
            shape: Shape::from([data.len()]),
            data: data.to_vec(),
        }
    }

    #[test]
    fn elementwise_arithmetic_never_wraps() {
        let sum = |a: &[i32], b: &[i32]| {
            elementwise(&[integers(a), integers(b)], i64::checked_add).map(|sum| sum.data)
        };
        assert_eq!(sum(&[1, 2], &[10, 20]), Some(vec![11, 22]));
        assert_eq!(sum(&[1, 2], &[10]), Some(vec![11, 12]));
        assert_eq!(sum(&[1, 2], &[1, 2, 3]), None);
        assert_eq!(sum(&[i32::MAX], &[1]), None);
    }

    #[test]
    fn gathering_checks_its_indices() {
        let gather = |i: &[i32]| gathered(&integers(&[7, 8, 9]), &integers(i)).map(|x| x.data);
        assert_eq!(gather(&[2, 0]), Some(vec![9, 7]));
        assert_eq!(gather(&[3]), None);
        assert_eq!(gather(&[-1]), None);
    }
}
