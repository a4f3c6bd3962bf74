use super::super::codes::{Granularity, WeightFormat, WeightScale};
use super::super::sample::{Sample, settings};
use super::super::scheme::{KeptAs, Mode};
use super::*;
use crate::graph::Activation;

fn tensor<'a>(lowered: &'a Lowered, name: &str) -> &'a Tensor {
    lowered
        .tensors
        .iter()
        .find(|tensor| tensor.name == name)
        .unwrap()
}

fn ops(lowered: &Lowered) -> Vec<&'static str> {
    lowered
        .operators
        .iter()
        .map(|operator| operator.op.name())
        .collect()
}

#[test]
fn a_convolution_by_hand() {
    // Input -1..1, result 0..5.1, weights 1.27 and -2.54, biases 0.1 and -0.2.
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 1]);
    let y = sample.conv(x, &[1.27, -2.54], &[0.1, -0.2], Activation::Relu, "y");
    sample.observe(y, &[0.0, 5.1]);
    sample.output(y);
    let lowered = sample.lower(&settings(Mode::Static(Activations::Int8)), InputType::UInt8);
    assert_eq!(ops(&lowered), ["QUANTIZE", "CONV_2D", "DEQUANTIZE"]);

    let bytes = tensor(&lowered, "x");
    let step = 2.0 / 255.0;
    assert_eq!(
        (bytes.element, &bytes.quant),
        (Element::U8, &Some(QuantParams::per_tensor(step, 127)))
    );
    let weights = tensor(&lowered, "y/weights");
    assert_eq!(weights.data, Some(Constant::Codes(vec![127, -127])));
    assert_eq!(weights.quant.as_ref().unwrap().scales, [0.01, 0.02]);
    let bias = tensor(&lowered, "y/bias");
    // 0.1 / (0.01 * 2/255) = 1275, -0.2 / (0.02 * 2/255) = -1275
    assert_eq!(
        (bias.element, &bias.data),
        (Element::I32, &Some(Constant::Codes(vec![1275, -1275])))
    );
    assert_eq!(
        bias.quant.as_ref().unwrap().scales,
        [0.01 * step, 0.02 * step]
    );
    let y = tensor(&lowered, "y");
    assert_eq!(y.quant, Some(QuantParams::per_tensor(5.1 / 255.0, -128)));
    assert_eq!(tensor(&lowered, "y/float32").element, Element::F32);
}

#[test]
fn sixteen_bit_activations_are_symmetric() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 1]);
    let y = sample.conv(x, &[1.27, -2.54], &[0.1, -0.2], Activation::None, "y");
    sample.observe(y, &[-3.2767, 1.0]);
    sample.output(y);
    let lowered = sample.lower(
        &settings(Mode::Static(Activations::Int16)),
        InputType::Float32,
    );
    assert_eq!(
        tensor(&lowered, "y").quant,
        Some(QuantParams::per_tensor(1e-4, 0))
    );
    assert_eq!(tensor(&lowered, "y/bias").element, Element::I64);
}

#[test]
fn joined_values_share_a_scale_and_fixed_ranges_stay() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 2]);
    let a = sample.node(Op::Activation(Activation::Relu), &[x], &[1, 1, 1, 2], "a");
    let b = sample.node(Op::Logistic, &[x], &[1, 1, 1, 2], "b");
    let joined = sample.node(Op::Concat { axis: 3 }, &[a, b], &[1, 1, 1, 4], "joined");
    let flat = sample.node(Op::Reshape, &[b], &[2], "flat");
    sample.observe(a, &[0.0, 2.55]);
    sample.observe(b, &[0.2, 0.9]);
    sample.observe(joined, &[0.0, 2.55]);
    sample.observe(flat, &[0.2, 0.9]);
    sample.output(joined);
    sample.output(flat);
    let lowered = sample.lower(&settings(Mode::Static(Activations::Int8)), InputType::Int8);
    let wide = Some(QuantParams::per_tensor(0.01, -128));
    assert_eq!(tensor(&lowered, "a").quant, wide);
    assert_eq!(tensor(&lowered, "joined").quant, wide);
    let unit = Some(QuantParams::per_tensor(1.0 / 256.0, -128));
    assert_eq!(tensor(&lowered, "b").quant, unit);
    // The concatenation reads a copy of `b` in its own scale.
    assert_eq!(tensor(&lowered, "b/int8").quant, wide);
}

#[test]
fn what_is_kept_is_real_between_conversions() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 1]);
    let y = sample.conv(x, &[1.0], &[0.5], Activation::None, "y");
    let z = sample.conv(y, &[1.0], &[0.5], Activation::None, "z");
    sample.output(z);
    let mut kept = settings(Mode::Static(Activations::Int8));
    kept.kept.insert(0);
    let lowered = sample.lower(&kept, InputType::Int8);
    assert_eq!(
        ops(&lowered),
        ["DEQUANTIZE", "CONV_2D", "QUANTIZE", "CONV_2D", "DEQUANTIZE"]
    );
    assert_eq!(tensor(&lowered, "y/weights").element, Element::F32);
    kept.kept_as = KeptAs::Int16;
    let lowered = sample.lower(&kept, InputType::Int8);
    assert_eq!(
        ops(&lowered),
        ["QUANTIZE", "CONV_2D", "QUANTIZE", "CONV_2D", "DEQUANTIZE"]
    );
    assert_eq!(tensor(&lowered, "y").element, Element::I16);
}

#[test]
fn weights_alone() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 1]);
    let y = sample.conv(x, &[2.54], &[0.5], Activation::None, "y");
    sample.output(y);
    let dynamic = sample.lower(&settings(Mode::Dynamic), InputType::Float32);
    assert_eq!(ops(&dynamic), ["CONV_2D"]);
    assert_eq!(
        tensor(&dynamic, "y/weights").data,
        Some(Constant::Codes(vec![127]))
    );
    assert_eq!(
        tensor(&dynamic, "y/bias").data,
        Some(Constant::Real(vec![0.5]))
    );
    let stored = sample.lower(&settings(Mode::Weights), InputType::Float32);
    assert_eq!(ops(&stored), ["DEQUANTIZE", "CONV_2D"]);
    assert_eq!(tensor(&stored, "y/weights/float32").element, Element::F32);
}

#[test]
fn depthwise_weights_beside_real_activations_have_a_scale_for_each_channel() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 2]);
    let y = sample.depthwise(x, &[1.27, -2.54], "y");
    sample.observe(y, &[0.0, 5.0]);
    sample.output(y);
    let scales = |mode| {
        let mut settings = settings(mode);
        settings.weights.granularity = Granularity::PerTensor;
        let lowered = sample.lower(&settings, InputType::Float32);
        let quant = tensor(&lowered, "y/weights").quant.clone().unwrap();
        quant.scales.len()
    };
    assert_eq!(scales(Mode::Dynamic), 2);
    assert_eq!(scales(Mode::Static(Activations::Int8)), 1);
}

#[test]
fn a_large_bias_raises_the_scale_of_its_weights() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 1]);
    let y = sample.conv(x, &[1e-9], &[1e4], Activation::None, "y");
    sample.output(y);
    let lowered = sample.lower(&settings(Mode::Static(Activations::Int8)), InputType::Int8);
    let Some(Constant::Codes(codes)) = &tensor(&lowered, "y/bias").data else {
        panic!()
    };
    assert!((1 << 29..=1 << 30).contains(&codes[0]), "{codes:?}");
}

#[test]
fn bias_correction_takes_the_mean_error_off() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 1]);
    let y = sample.conv(x, &[1.0, 0.255], &[0.0, 0.0], Activation::None, "y");
    sample.output(y);
    sample.set_means(x, &[0.5]);
    let weights = WeightFormat {
        bits: 8,
        granularity: Granularity::PerTensor,
        scale: WeightScale::Largest,
    };
    let settings = Settings {
        weights,
        bias_correction: true,
        ..settings(Mode::Weights)
    };
    let lowered = sample.lower(&settings, InputType::Float32);
    let Some(Constant::Real(bias)) = &tensor(&lowered, "y/bias").data else {
        panic!()
    };
    // 0.255 becomes 32/127, 0.003032 less, of which the mean input sees half.
    let expected = (0.255 - 32.0 / 127.0) * 0.5;
    assert!(
        bias[0].abs() < 1e-7 && (bias[1] - expected).abs() < 1e-7,
        "{bias:?}"
    );
}

#[test]
fn what_the_bytes_are_shifted_by_is_taken_off_the_bias() {
    let mut sample = Sample::default();
    let x = sample.input(&[1, 1, 1, 1]);
    let y = sample.conv(x, &[1.0, -0.5], &[0.25, 0.25], Activation::None, "y");
    sample.output(y);
    sample.observe(y, &[-1.0, 1.0]);
    sample.input_shift = 1.0 / 255.0;
    let bias_of = |input: InputType| -> Vec<f64> {
        let lowered = sample.lower(&settings(Mode::Static(Activations::Int8)), input);
        let bias = tensor(&lowered, "y/bias");
        let (Some(Constant::Codes(codes)), Some(quant)) = (&bias.data, &bias.quant) else {
            panic!()
        };
        let real = codes.iter().zip(&quant.scales);
        real.map(|(&code, &scale)| code as f64 * f64::from(scale))
            .collect()
    };
    let near = |found: Vec<f64>, expected: [f64; 2]| {
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-4),
            "{found:?}"
        );
    };
    near(bias_of(InputType::Float32), [0.25, 0.25]);
    near(
        bias_of(InputType::UInt8),
        [0.25 - 1.0 / 255.0, 0.25 + 0.5 / 255.0],
    );
}
