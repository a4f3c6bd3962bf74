//! The shape rule of every operator.

use super::Op;
use super::windowed::{check_bias, conv_2d, depthwise_conv_2d, nhwc, pool_2d};
use crate::tensor::Shape;

/// Why the inputs of an operator do not fit it, in words that follow `operator N (NAME): `.
pub type Misfit = String;

/// Shapes of an operator's outputs.
///
/// `declared` is the shape of the first output as its maker states it. The operators whose attributes leave it open
/// (RESHAPE, the resizes, MEAN, STRIDED_SLICE) take it after checking that it fits; for all others it has no
/// influence. `outputs` is the number of outputs, which only SPLIT needs.
pub fn output_shapes(
    op: &Op,
    inputs: &[&Shape],
    declared: &Shape,
    outputs: usize,
) -> Result<Vec<Shape>, Misfit> {
    check_input_count(op, inputs.len())?;
    let x = inputs[0];
    let shapes = match op {
        Op::Conv2d(conv) => vec![conv_2d(conv, inputs)?],
        Op::DepthwiseConv2d(conv) => vec![depthwise_conv_2d(conv, inputs)?],
        Op::FullyConnected(_) => vec![fully_connected(inputs)?],
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) => vec![broadcast(x, inputs[1])?],
        Op::Concat { axis } => vec![concat(inputs, *axis)?],
        Op::Reshape => vec![reshape(x, declared)?],
        Op::Pad { pads } => vec![pad(x, pads)?],
        Op::AvgPool2d(pool) | Op::MaxPool2d(pool) => vec![pool_2d(pool, x)?],
        Op::Mean { axes } => vec![mean(x, axes, declared)?],
        Op::Softmax { .. } if x.rank() == 0 => return Err("the input is a scalar".into()),
        Op::Softmax { .. }
        | Op::Logistic
        | Op::Activation(_)
        | Op::HardSwish
        | Op::Quantize
        | Op::Dequantize
        | Op::FakeQuantize(_) => vec![x.clone()],
        Op::ResizeNearest(_) | Op::ResizeBilinear(_) => vec![resize(x, declared)?],
        Op::Pack { axis } => vec![pack(inputs, *axis)?],
        Op::Split { axis } => split(x, *axis, outputs)?,
        Op::StridedSlice { begin, end, stride } => {
            vec![strided_slice(x, [begin, end, stride], declared)?]
        }
        Op::Transpose(axes) => vec![transpose(x, &axes.0)?],
        Op::ArgMax { axis } => vec![arg_max(x, *axis)?],
        Op::SpaceToBatch { block, pads } => vec![space_to_batch(x, *block, *pads)?],
        Op::BatchToSpace { block, crops } => vec![batch_to_space(x, *block, *crops)?],
        Op::DetectionPostProcess(options) => {
            return super::post_process::output_shapes(options, inputs);
        }
    };
    if shapes.iter().any(|shape| shape.elements() == 0) {
        return Err("the output would be empty".into());
    }
    Ok(shapes)
}

fn check_input_count(op: &Op, count: usize) -> Result<(), Misfit> {
    let (least, most) = match op {
        Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::FullyConnected(_) => (2, 3),
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) => (2, 2),
        Op::Concat { .. } | Op::Pack { .. } => (1, usize::MAX),
        Op::DetectionPostProcess(_) => (3, 3),
        _ => (1, 1),
    };
    if count < least || count > most {
        return Err(format!("it has {count} inputs, which is not its number"));
    }
    Ok(())
}

pub(super) fn checked(dims: Vec<usize>) -> Result<Shape, Misfit> {
    let text = format!("{dims:?}");
    Shape::checked(dims).ok_or_else(|| format!("a tensor of shape {text} is too large"))
}

fn fully_connected(inputs: &[&Shape]) -> Result<Shape, Misfit> {
    let &[units, depth] = inputs[1].dims() else {
        return Err(format!("weights of shape {} have not rank 2", inputs[1]));
    };
    let elements = inputs[0].elements();
    if depth == 0 || !elements.is_multiple_of(depth) {
        return Err(format!(
            "weights of shape {} do not fit an input of shape {}",
            inputs[1], inputs[0]
        ));
    }
    check_bias(inputs, units)?;
    checked(vec![elements / depth, units])
}

/// The NumPy rule: trailing dimensions are equal, or one of them is 1 or absent.
pub fn broadcast(a: &Shape, b: &Shape) -> Result<Shape, Misfit> {
    let rank = a.rank().max(b.rank());
    let dim = |shape: &Shape, i: usize| match (i + shape.rank()).checked_sub(rank) {
        Some(i) => shape.dims()[i],
        None => 1,
    };
    let dims: Option<Vec<usize>> = (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect();
    checked(dims.ok_or_else(|| format!("shapes {a} and {b} do not broadcast"))?)
}

fn check_axis(axis: usize, rank: usize) -> Result<(), Misfit> {
    if axis < rank {
        Ok(())
    } else {
        Err(format!("axis {axis} is outside a tensor of rank {rank}"))
    }
}

fn concat(inputs: &[&Shape], axis: usize) -> Result<Shape, Misfit> {
    let first = inputs[0];
    check_axis(axis, first.rank())?;
    let mut dims = first.dims().to_vec();
    for shape in &inputs[1..] {
        let fits = shape.rank() == first.rank()
            && (0..first.rank()).all(|i| i == axis || shape.dims()[i] == first.dims()[i]);
        if !fits {
            return Err(format!(
                "shapes {first} and {shape} do not join along axis {axis}"
            ));
        }
        dims[axis] = dims[axis]
            .checked_add(shape.dims()[axis])
            .ok_or("the joined size overflows")?;
    }
    checked(dims)
}

fn reshape(x: &Shape, target: &Shape) -> Result<Shape, Misfit> {
    if x.elements() == target.elements() {
        Ok(target.clone())
    } else {
        Err(format!("shape {x} has not the elements of {target}"))
    }
}

fn pad(x: &Shape, pads: &[[usize; 2]]) -> Result<Shape, Misfit> {
    if pads.len() != x.rank() {
        return Err(format!("{} pads for a tensor of shape {x}", pads.len()));
    }
    let dims: Option<Vec<usize>> = x
        .dims()
        .iter()
        .zip(pads)
        .map(|(dim, [before, after])| dim.checked_add(*before)?.checked_add(*after))
        .collect();
    checked(dims.ok_or("the padded size overflows")?)
}

fn mean(x: &Shape, axes: &[usize], declared: &Shape) -> Result<Shape, Misfit> {
    if !axes.is_sorted_by(|a, b| a < b) || axes.last().is_some_and(|&axis| axis >= x.rank()) {
        return Err(format!("axes {axes:?} do not fit a tensor of shape {x}"));
    }
    let kept: Vec<usize> = (0..x.rank())
        .map(|i| if axes.contains(&i) { 1 } else { x.dims()[i] })
        .collect();
    let dropped: Vec<usize> = (0..x.rank())
        .filter(|i| !axes.contains(i))
        .map(|i| x.dims()[i])
        .collect();
    if declared.dims() == kept || declared.dims() == dropped {
        Ok(declared.clone())
    } else {
        Err(format!(
            "the mean of {x} over axes {axes:?} has not shape {declared}"
        ))
    }
}

fn resize(x: &Shape, declared: &Shape) -> Result<Shape, Misfit> {
    let [batch, _, _, channels] = nhwc(x)?;
    match declared.nhwc() {
        Some([n, _, _, c]) if n == batch && c == channels => Ok(declared.clone()),
        _ => Err(format!(
            "a tensor of shape {x} is not resized to {declared}"
        )),
    }
}

fn pack(inputs: &[&Shape], axis: usize) -> Result<Shape, Misfit> {
    let first = inputs[0];
    check_axis(axis, first.rank() + 1)?;
    if let Some(other) = inputs.iter().find(|shape| **shape != first) {
        return Err(format!("shapes {first} and {other} do not stack"));
    }
    let mut dims = first.dims().to_vec();
    dims.insert(axis, inputs.len());
    checked(dims)
}

fn split(x: &Shape, axis: usize, outputs: usize) -> Result<Vec<Shape>, Misfit> {
    check_axis(axis, x.rank())?;
    if outputs == 0 || !x.dims()[axis].is_multiple_of(outputs) {
        return Err(format!(
            "axis {axis} of shape {x} does not split into {outputs} equal parts"
        ));
    }
    let mut dims = x.dims().to_vec();
    dims[axis] /= outputs;
    Ok(vec![checked(dims)?; outputs])
}

/// Elements that one axis of a slice takes: `begin`, `begin + stride`, ... before `end`.
pub fn slice_length(begin: i64, end: i64, stride: i64) -> usize {
    let (distance, step) = if stride > 0 {
        (end.saturating_sub(begin), stride)
    } else {
        (begin.saturating_sub(end), stride.saturating_neg())
    };
    if distance <= 0 || step <= 0 {
        return 0;
    }
    usize::try_from((distance - 1) / step + 1).unwrap_or(usize::MAX)
}

fn strided_slice(
    x: &Shape,
    [begin, end, stride]: [&[i64]; 3],
    declared: &Shape,
) -> Result<Shape, Misfit> {
    let rank = x.rank();
    if [begin.len(), end.len(), stride.len()] != [rank; 3] {
        return Err(format!("the slice has not the rank of {x}"));
    }
    let mut dims = Vec::with_capacity(rank);
    for i in 0..rank {
        let size = i64::try_from(x.dims()[i]).map_err(|_| "a dimension overflows")?;
        let inside = if stride[i] > 0 {
            begin[i] >= 0 && end[i] <= size
        } else {
            stride[i] < 0 && begin[i] < size && end[i] >= -1
        };
        if !inside {
            return Err(format!("the slice of axis {i} leaves shape {x}"));
        }
        dims.push(slice_length(begin[i], end[i], stride[i]));
    }
    let long =
        |dims: &[usize]| -> Vec<usize> { dims.iter().copied().filter(|&d| d != 1).collect() };
    if declared.rank() <= rank && long(declared.dims()) == long(&dims) {
        Ok(declared.clone())
    } else {
        Err(format!("a slice of shape {dims:?} is not {declared}"))
    }
}

fn transpose(x: &Shape, axes: &[usize]) -> Result<Shape, Misfit> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..x.rank()) {
        return Err(format!("axes {axes:?} are no permutation for shape {x}"));
    }
    checked(axes.iter().map(|&axis| x.dims()[axis]).collect())
}

fn arg_max(x: &Shape, axis: usize) -> Result<Shape, Misfit> {
    check_axis(axis, x.rank())?;
    let mut dims = x.dims().to_vec();
    dims.remove(axis);
    checked(dims)
}

fn space_to_batch(x: &Shape, block: [usize; 2], pads: [[usize; 2]; 2]) -> Result<Shape, Misfit> {
    let [batch, height, width, channels] = nhwc(x)?;
    let mut dims = vec![batch, 0, 0, channels];
    for (i, size) in [height, width].into_iter().enumerate() {
        let padded = size
            .checked_add(pads[i][0])
            .and_then(|sum| sum.checked_add(pads[i][1]))
            .ok_or("the padded size overflows")?;
        if block[i] == 0 || !padded.is_multiple_of(block[i]) {
            return Err(format!("{padded} is no multiple of the block {}", block[i]));
        }
        dims[i + 1] = padded / block[i];
        dims[0] = dims[0].checked_mul(block[i]).ok_or("the batch overflows")?;
    }
    checked(dims)
}

fn batch_to_space(x: &Shape, block: [usize; 2], crops: [[usize; 2]; 2]) -> Result<Shape, Misfit> {
    let [batch, height, width, channels] = nhwc(x)?;
    let blocks = block[0].checked_mul(block[1]).filter(|&blocks| blocks > 0);
    let blocks = blocks.ok_or("a block is 0 or too large")?;
    if !batch.is_multiple_of(blocks) {
        return Err(format!("batch {batch} is no multiple of {blocks} blocks"));
    }
    let mut dims = vec![batch / blocks, 0, 0, channels];
    for (i, size) in [height, width].into_iter().enumerate() {
        dims[i + 1] = size
            .checked_mul(block[i])
            .and_then(|size| size.checked_sub(crops[i][0])?.checked_sub(crops[i][1]))
            .ok_or_else(|| format!("crops {:?} leave nothing", crops[i]))?;
    }
    checked(dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Conv2d, Padding2d, ResizeMode, TransposedAxes};

    fn infer(op: Op, inputs: &[&Shape], declared: Shape) -> Result<Vec<usize>, String> {
        output_shapes(&op, inputs, &declared, 1).map(|shapes| shapes[0].dims().to_vec())
    }

    fn conv(stride: usize, dilation: usize, pad: usize) -> Conv2d {
        Conv2d {
            stride: [stride; 2],
            dilation: [dilation; 2],
            padding: Padding2d {
                top: pad,
                bottom: pad,
                left: pad,
                right: pad,
            },
            activation: Activation::None,
        }
    }

    #[test]
    fn convolutions_slide_their_window() {
        let x = Shape::from([1, 9, 7, 4]);
        let w = Shape::from([5, 3, 3, 4]);
        let out = infer(Op::Conv2d(conv(2, 1, 1)), &[&x, &w], Shape::default());
        assert_eq!(out, Ok(vec![1, 5, 4, 5]));
        let out = infer(Op::Conv2d(conv(1, 2, 0)), &[&x, &w], Shape::default());
        assert_eq!(out, Ok(vec![1, 5, 3, 5]));
        let bias = Shape::from([4]);
        assert!(
            infer(
                Op::Conv2d(conv(1, 1, 0)),
                &[&x, &w, &bias],
                Shape::default()
            )
            .is_err()
        );
        assert!(infer(Op::Conv2d(conv(0, 1, 0)), &[&x, &w], Shape::default()).is_err());
        assert!(infer(Op::Conv2d(conv(1, 9, 0)), &[&x, &w], Shape::default()).is_err());
        let depthwise = Shape::from([1, 3, 3, 8]);
        let out = infer(
            Op::DepthwiseConv2d(conv(1, 1, 1)),
            &[&x, &depthwise],
            Shape::default(),
        );
        assert_eq!(out, Ok(vec![1, 9, 7, 8]));
        let odd = Shape::from([1, 3, 3, 6]);
        assert!(
            infer(
                Op::DepthwiseConv2d(conv(1, 1, 1)),
                &[&x, &odd],
                Shape::default()
            )
            .is_err()
        );
    }

    #[test]
    fn elementwise_operators_broadcast() {
        let add = || Op::Add(Activation::None);
        let a = Shape::from([2, 1, 3]);
        assert_eq!(
            infer(add(), &[&a, &Shape::from([4, 1])], Shape::default()),
            Ok(vec![2, 4, 3])
        );
        assert_eq!(
            infer(add(), &[&a, &Shape::default()], Shape::default()),
            Ok(vec![2, 1, 3])
        );
        assert!(infer(add(), &[&a, &Shape::from([2])], Shape::default()).is_err());
    }

    #[test]
    fn declared_shapes_must_fit() {
        let x = Shape::from([1, 4, 6, 2]);
        assert!(infer(Op::Reshape, &[&x], Shape::from([7, 7])).is_err());
        assert_eq!(
            infer(Op::Reshape, &[&x], Shape::from([8, 6])),
            Ok(vec![8, 6])
        );
        let mean = || Op::Mean { axes: vec![1, 2] };
        assert_eq!(infer(mean(), &[&x], Shape::from([1, 2])), Ok(vec![1, 2]));
        assert_eq!(
            infer(mean(), &[&x], Shape::from([1, 1, 1, 2])),
            Ok(vec![1, 1, 1, 2])
        );
        assert!(infer(mean(), &[&x], Shape::from([2, 2])).is_err());
        let resize = Op::ResizeNearest(ResizeMode::Asymmetric);
        assert!(infer(resize.clone(), &[&x], Shape::from([1, 8, 12, 3])).is_err());
        assert_eq!(
            infer(resize, &[&x], Shape::from([1, 8, 12, 2])),
            Ok(vec![1, 8, 12, 2])
        );
    }

    #[test]
    fn slices_walk_both_ways() {
        assert_eq!(slice_length(0, 5, 2), 3);
        assert_eq!(slice_length(4, -1, -2), 3);
        assert_eq!(slice_length(3, 3, 1), 0);
        assert_eq!(slice_length(0, 5, i64::MIN), 0);
        let slice = Op::StridedSlice {
            begin: vec![1, 0],
            end: vec![2, 6],
            stride: vec![1, 3],
        };
        let x = [&Shape::from([3, 6])];
        assert_eq!(infer(slice.clone(), &x, Shape::from([2])), Ok(vec![2]));
        assert_eq!(
            infer(slice.clone(), &x, Shape::from([1, 2])),
            Ok(vec![1, 2])
        );
        assert!(infer(slice, &x, Shape::from([3])).is_err());
    }

    #[test]
    fn rearranging_operators() {
        let x = Shape::from([1, 5, 6, 2]);
        let to_batch = Op::SpaceToBatch {
            block: [2, 3],
            pads: [[0, 1], [0, 0]],
        };
        assert_eq!(
            infer(to_batch, &[&x], Shape::default()),
            Ok(vec![6, 3, 2, 2])
        );
        let to_space = Op::BatchToSpace {
            block: [2, 3],
            crops: [[0, 1], [0, 0]],
        };
        assert_eq!(
            infer(to_space, &[&Shape::from([6, 3, 2, 2])], Shape::default()),
            Ok(vec![1, 5, 6, 2])
        );
        let transpose = Op::Transpose(TransposedAxes(vec![0, 3, 1, 2]));
        assert_eq!(
            infer(transpose, &[&x], Shape::default()),
            Ok(vec![1, 2, 5, 6])
        );
        assert!(
            infer(
                Op::Transpose(TransposedAxes(vec![0, 0, 1, 2])),
                &[&x],
                Shape::default()
            )
            .is_err()
        );
        let both = [&x, &x];
        assert_eq!(
            infer(Op::Concat { axis: 3 }, &both, Shape::default()),
            Ok(vec![1, 5, 6, 4])
        );
        assert_eq!(
            infer(Op::Pack { axis: 4 }, &both, Shape::default()),
            Ok(vec![1, 5, 6, 2, 2])
        );
        assert!(infer(Op::Concat { axis: 4 }, &both, Shape::default()).is_err());
        assert!(infer(Op::Split { axis: 4 }, &both[..1], Shape::default()).is_err());
    }

    #[test]
    fn sizes_cannot_overflow() {
        let huge = Op::Pad {
            pads: vec![[usize::MAX, 1]],
        };
        assert!(infer(huge, &[&Shape::from([3])], Shape::default()).is_err());
        let large = Op::Pad {
            pads: vec![[1 << 28, 1]],
        };
        assert!(infer(large, &[&Shape::from([3])], Shape::default()).is_err());
    }
}
