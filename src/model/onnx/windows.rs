//! Geometry of convolutions and pools, and what pools and resizes make.

use super::import::{Form, Importer, NCHW, View};
use super::quantize;
use super::site::Site;
use crate::error::Result;
use crate::graph::{Activation, Op, Padding2d, Pool2d, ResizeMode};
use crate::tensor::Shape;

/// How a window moves over a picture; pairs are rows, columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding2d,
}

impl Window {
    /// The attributes of a convolution or a pool over a picture of `size`.
    pub fn read(
        importer: &Importer<'_>,
        site: &Site,
        size: [usize; 2],
        kernel: [usize; 2],
    ) -> Result<Self> {
        let stride = pair(importer, site, "strides")?;
        let dilation = pair(importer, site, "dilations")?;
        let before_after = |axis: usize| {
            let reach = kernel[axis]
                .saturating_sub(1)
                .saturating_mul(dilation[axis])
                + 1;
            let steps = size[axis].div_ceil(stride[axis]);
            let needed = (steps.saturating_sub(1) * stride[axis]).saturating_add(reach);
            needed.saturating_sub(size[axis])
        };
        let same = |upper: bool| {
            let [rows, columns] = [before_after(0), before_after(1)];
            let less = |total: usize| if upper { total / 2 } else { total - total / 2 };
            [
                less(rows),
                less(columns),
                rows - less(rows),
                columns - less(columns),
            ]
        };
        let pads = match site.text("auto_pad") {
            "" | "NOTSET" => explicit(importer, site)?,
            "VALID" => [0; 4],
            "SAME_UPPER" => same(true),
            "SAME_LOWER" => same(false),
            other => {
                return Err(site.damaged(importer.model, format!("its auto_pad is `{other:.40}`")));
            }
        };
        let [top, left, bottom, right] = pads;
        Ok(Self {
            stride,
            dilation,
            padding: Padding2d {
                top,
                bottom,
                left,
                right,
            },
        })
    }
}

/// Two numbers above 0; ones if the attribute is missing.
fn pair(importer: &Importer<'_>, site: &Site, name: &str) -> Result<[usize; 2]> {
    let Some(values) = site.ints(name) else {
        return Ok([1, 1]);
    };
    let positive = |value: i64| u32::try_from(value).ok().filter(|&value| value > 0);
    let wrong = || {
        site.damaged(
            importer.model,
            format!("its {name} are {:.99}", format!("{values:?}")),
        )
    };
    match *values {
        [rows, columns] => match (positive(rows), positive(columns)) {
            (Some(rows), Some(columns)) => Ok([rows as usize, columns as usize]),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// Top, left, bottom, right.
fn explicit(importer: &Importer<'_>, site: &Site) -> Result<[usize; 4]> {
    let Some(pads) = site.ints("pads") else {
        return Ok([0; 4]);
    };
    let counts: Option<Vec<usize>> = pads
        .iter()
        .map(|&pad| u32::try_from(pad).ok().map(|pad| pad as usize))
        .collect();
    counts
        .and_then(|counts| counts.try_into().ok())
        .ok_or_else(|| {
            site.damaged(
                importer.model,
                format!("its pads are {:.99}", format!("{pads:?}")),
            )
        })
}

/// MaxPool and AveragePool.
pub(super) fn pool(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let x = importer.view(site, 0)?;
    let &[_, _, height, width] = &importer.dims(&x)[..] else {
        return Err(site.unsupported(model, "on other than pictures", "use two-dimensional pools"));
    };
    let kernel = match site.has("kernel_shape") {
        true => pair(importer, site, "kernel_shape")?,
        false => return Err(site.damaged(model, "it has no kernel_shape")),
    };
    let mut window = Window::read(importer, site, [height, width], kernel)?;
    if window.dilation != [1, 1] {
        return Err(site.unsupported(model, "with dilations", "export the model with plain pools"));
    }
    if site.int("ceil_mode", 0) != 0 {
        round_up(&mut window, [height, width], kernel);
    }
    let is_max = site.op() == "MaxPool";
    let counts_padding = site.int("count_include_pad", 0) != 0;
    if !is_max && counts_padding && window.padding != Padding2d::default() {
        let advice = "export the model with pools that do not count their padding";
        return Err(site.unsupported(model, "that counts its padding", advice));
    }
    if !is_max && kernel == [height, width] && window.padding == Padding2d::default() {
        return mean(importer, site, &x, &[2, 3], true);
    }
    let pool = |activation| Pool2d {
        window: kernel,
        stride: window.stride,
        padding: window.padding,
        activation,
    };
    let none = Shape::default();
    if is_max {
        let id = importer.nhwc(site, &x)?;
        let op = Op::MaxPool2d(pool(Activation::None));
        return importer.keep(site, op, &x, id, NCHW.to_vec(), &none);
    }
    let codes = quantize::codes_outcome(importer, site)?;
    let (x, outcome) = match codes.filter(|outcome| outcome.form == importer.form(&x)) {
        Some(outcome) => (x, outcome),
        None => (
            importer.as_real(site, &x)?,
            quantize::real_outcome(importer, site)?,
        ),
    };
    let id = importer.nhwc(site, &x)?;
    let op = Op::AvgPool2d(pool(outcome.activation));
    importer.finish(site, op, vec![id], outcome, NCHW.to_vec(), &none)
}

/// Widens the padding at the far sides so that the last window, which may leave the picture, has a place.
fn round_up(window: &mut Window, size: [usize; 2], kernel: [usize; 2]) {
    let extra = |axis: usize, pads: usize| {
        let room = (size[axis] + pads).saturating_sub(kernel[axis]);
        room.next_multiple_of(window.stride[axis]) - room
    };
    let Padding2d {
        top,
        bottom,
        left,
        right,
    } = window.padding;
    let (below, beyond) = (extra(0, top + bottom), extra(1, left + right));
    window.padding.bottom += below;
    window.padding.right += beyond;
}

/// GlobalAveragePool, ReduceMean and pools of the whole picture: the mean over axes of the file.
pub(super) fn mean(
    importer: &mut Importer<'_>,
    site: &Site,
    x: &View,
    over: &[usize],
    keeps: bool,
) -> Result<()> {
    let codes = match importer.form(x) {
        Form::Codes(_) => quantize::codes_outcome(importer, site)?,
        Form::Real => None,
    };
    // A mean has no clamp of its own.
    let codes = codes.filter(|outcome| outcome.activation == Activation::None);
    let (x, outcome) = match codes {
        Some(outcome) => (x.clone(), outcome),
        None => {
            let mut outcome = quantize::real_outcome(importer, site)?;
            outcome.forget_clamp(site);
            (importer.as_real(site, x)?, outcome)
        }
    };
    let mut axes: Vec<usize> = over.iter().map(|&axis| x.axes[axis]).collect();
    axes.sort_unstable();
    axes.dedup();
    let stored = importer.graph.shape(x.id).dims();
    let dims = stored
        .iter()
        .enumerate()
        .filter_map(|(axis, &dim)| match axes.contains(&axis) {
            true => keeps.then_some(1),
            false => Some(dim),
        });
    let declared = importer.shape(site, dims.collect())?;
    let left = |axis: usize| axis - axes.iter().filter(|&&gone| gone < axis).count();
    let view_axes = match keeps {
        true => x.axes.clone(),
        false => {
            let kept = x.axes.iter().filter(|axis| !axes.contains(axis));
            kept.map(|&axis| left(axis)).collect()
        }
    };
    importer.finish(
        site,
        Op::Mean { axes },
        vec![x.id],
        outcome,
        view_axes,
        &declared,
    )
}

/// Resize, and Upsample of old files. The scale of codes stays.
pub(super) fn resize(importer: &mut Importer<'_>, site: &Site) -> Result<()> {
    let model = importer.model;
    let x = importer.view(site, 0)?;
    let dims = importer.dims(&x);
    let target = resize_target(importer, site, &dims)?;
    let (&[_, _, height, width], &[batch, channels, rows, columns]) = (&dims[..], &target[..])
    else {
        return Err(site.unsupported(model, "on other than pictures", "resize pictures only"));
    };
    if [batch, channels] != dims[..2] {
        return Err(site.unsupported(
            model,
            "of batch or channels",
            "resize rows and columns only",
        ));
    }
    let is_old = site.op() == "Upsample";
    let text = |name, default| match site.text(name) {
        "" => default,
        text => text,
    };
    let coordinates = text(
        "coordinate_transformation_mode",
        if is_old { "asymmetric" } else { "half_pixel" },
    );
    let id = importer.nhwc(site, &x)?;
    let declared = importer.shape(site, vec![batch, rows, columns, channels])?;
    let sizes = [[height, rows], [width, columns]];
    let op = match text("mode", "nearest") {
        "nearest" => {
            let rounding = text(
                "nearest_mode",
                if is_old {
                    "floor"
                } else {
                    "round_prefer_floor"
                },
            );
            nearest(sizes, coordinates, rounding).map(Op::ResizeNearest)
        }
        "linear" | "bilinear" => linear(sizes, coordinates).map(Op::ResizeBilinear),
        _ => None,
    };
    let op = op.ok_or_else(|| {
        let what = format!("in mode {:.40}, {coordinates:.40}", text("mode", "nearest"));
        site.unsupported(model, &what, importer.advice())
    })?;
    importer.keep(site, op, &x, id, NCHW.to_vec(), &declared)
}

/// The target's dimensions, by sizes or by scales.
fn resize_target(importer: &mut Importer<'_>, site: &Site, dims: &[usize]) -> Result<Vec<usize>> {
    let model = importer.model;
    let is_old = site.op() == "Upsample" || importer.opset < 11;
    let sizes = match is_old {
        true => None,
        false => importer.integers(site, 3)?,
    };
    let wrong = || site.damaged(model, "its scales or sizes do not fit its input");
    let target: Option<Vec<usize>> = match sizes.filter(|sizes| !sizes.is_empty()) {
        Some(sizes) => sizes
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect(),
        None => {
            let scales = match site.floats("scales") {
                Some(scales) => Some(scales.to_vec()),
                None => {
                    let scales = importer.optional_constant(site, if is_old { 1 } else { 2 })?;
                    scales.and_then(|scales| scales.reals())
                }
            };
            let scales = scales
                .filter(|scales| scales.len() == dims.len())
                .ok_or_else(wrong)?;
            let sizes = dims.iter().zip(scales).map(|(&dim, scale)| {
                let size = (dim as f64 * f64::from(scale)).floor();
                (1.0..1e9).contains(&size).then_some(size as usize)
            });
            sizes.collect()
        }
    };
    target
        .filter(|target| target.len() == dims.len())
        .ok_or_else(wrong)
}

/// The point of the source that a pixel of the target reads, by ONNX's name of the rule.
fn source(coordinates: &str, [from, to]: [usize; 2], at: usize) -> Option<f64> {
    let (from, to, at) = (from as f64, to as f64, at as f64);
    match coordinates {
        "asymmetric" => Some(at * from / to),
        "half_pixel" => Some((at + 0.5) * from / to - 0.5),
        "pytorch_half_pixel" if to > 1.0 => Some((at + 0.5) * from / to - 0.5),
        "align_corners" if to > 1.0 => Some(at * (from - 1.0) / (to - 1.0)),
        "pytorch_half_pixel" | "align_corners" => Some(0.0),
        _ => None,
    }
}

/// The place in the input that a place in the output reads, made whole.
type Rounding<'a> = &'a dyn Fn(f64) -> Option<f64>;

/// The mode of the graph that reads the same pixels.
fn nearest(sizes: [[usize; 2]; 2], coordinates: &str, rounding: &str) -> Option<ResizeMode> {
    let round = |x: f64| match rounding {
        "floor" => Some(x.floor()),
        "ceil" => Some(x.ceil()),
        "round_prefer_floor" => Some((x - 0.5).ceil()),
        "round_prefer_ceil" => Some((x + 0.5).floor()),
        _ => None,
    };
    let reads = |coordinates: &str, round: Rounding<'_>| -> Option<Vec<usize>> {
        let axes = sizes
            .iter()
            .flat_map(|&[from, to]| (0..to).map(move |at| (from, to, at)));
        axes.map(|(from, to, at)| {
            let pixel = round(source(coordinates, [from, to], at)?)?;
            Some((pixel.max(0.0) as usize).min(from - 1))
        })
        .collect()
    };
    if sizes.iter().any(|&[_, to]| to > 1 << 16) {
        return None;
    }
    let wanted = reads(coordinates, &round)?;
    let up = |x: f64| Some((x + 0.5).floor());
    let modes: [(ResizeMode, &str, Rounding<'_>); 3] = [
        (ResizeMode::Asymmetric, "asymmetric", &|x| Some(x.floor())),
        (ResizeMode::HalfPixelCenters, "half_pixel", &up),
        (ResizeMode::AlignCorners, "align_corners", &up),
    ];
    let found = modes
        .into_iter()
        .find(|(_, name, round)| reads(name, round).as_ref() == Some(&wanted));
    found.map(|(mode, ..)| mode)
}

fn linear(sizes: [[usize; 2]; 2], coordinates: &str) -> Option<ResizeMode> {
    match coordinates {
        "asymmetric" => Some(ResizeMode::Asymmetric),
        "half_pixel" => Some(ResizeMode::HalfPixelCenters),
        "pytorch_half_pixel" if sizes.iter().all(|&[_, to]| to > 1) => {
            Some(ResizeMode::HalfPixelCenters)
        }
        "align_corners" => Some(ResizeMode::AlignCorners),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizes_that_read_the_same_pixels_are_one() {
        let twice = [[5, 10], [7, 14]];
        for (coordinates, rounding) in [
            ("asymmetric", "floor"),
            ("half_pixel", "round_prefer_floor"),
            ("half_pixel", "round_prefer_ceil"),
        ] {
            assert_eq!(
                nearest(twice, coordinates, rounding),
                Some(ResizeMode::Asymmetric)
            );
        }
        assert_eq!(nearest(twice, "asymmetric", "ceil"), None);
        assert_eq!(
            nearest([[4, 2], [4, 2]], "half_pixel", "round_prefer_ceil"),
            Some(ResizeMode::HalfPixelCenters)
        );
    }
}
