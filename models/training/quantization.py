"""The integer network: calibration and quantization-aware training.

int8 activations with one range a tensor, int8 weights symmetric with one scale a channel (-127..127), as TFLite's
quantization specification asks. Fake quantization in training: Jacob et al., arXiv:1712.05877.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from averages import Averages
from dataset import Batches, Scenes, resize
from loss import detection_loss
from model import INPUT_SIZE, anchors, convolve, network

CALIBRATION = 200
SCORE_LIMIT = 0.3
RANGE_STEP = 0.01
FOLLOWING = 0.4
LOGIT_FLOOR, LOGIT_CEILING = -8.0, 6.0
# A byte q stands for (q - 128) / 127.5: int8 zero point 0.
INPUT_RANGE = (-128 / 127.5, 127 / 127.5)
# sigmoid's output is q / 256, the only scale that int8 LOGISTIC has.
SCORE_RANGE = (0.0, 255 / 256)


def quantized_input(images):
    return (tf.cast(images, tf.float32) - 128.0) / 127.5


def calibration_images(build):
    scenes = Scenes(build, "train", CALIBRATION)
    return np.stack([resize(scenes[i][0], INPUT_SIZE, INPUT_SIZE) for i in range(len(scenes))])


def calibrate(weights, images):
    """Range (low, high) of every activation: the mean over pictures of each one's extremes, always with 0 inside. Box
    codes count where something is found; logits are cut where a score hardly moves."""
    constants = {name: tf.constant(value) for name, value in weights.items()}

    @tf.function(jit_compile=False)
    def extremes(x):
        seen = {}

        def note(name, value):
            seen[name] = tf.stack([tf.reduce_min(value), tf.reduce_max(value)])
            return value

        def conv(layer, x):
            x = convolve(layer, x, constants[f"{layer.name}/kernel"]) + constants[f"{layer.name}/bias"]
            return x if layer.head else note(layer.name, tf.nn.relu6(x) if layer.relu6 else x)

        codes, logits = network(x, conv, lambda name, a, b: note(name, a + b))
        found = tf.reduce_max(tf.sigmoid(logits), axis=-1) > SCORE_LIMIT
        return seen, tf.boolean_mask(codes, found)

    sums, code_values = {}, []
    for image in images:
        seen, codes = extremes(quantized_input(image[None]))
        code_values.append(codes.numpy().ravel())
        for name, pair in seen.items():
            sums[name] = sums.get(name, 0) + pair.numpy()
    ranges = {name: with_zero(*(total / len(images))) for name, total in sums.items()}
    codes = np.concatenate(code_values + [np.float32([-8, 8])])
    ranges["codes"] = with_zero(*np.quantile(codes, (0.0005, 0.9995)))
    ranges["logits"] = (LOGIT_FLOOR, LOGIT_CEILING)
    return ranges


def with_zero(low, high):
    return float(min(low, 0.0)), float(max(high, low + 1e-3, 1e-3))


def fake_quantize_kernel(kernel, depthwise):
    """int8 symmetric for each output channel; channels are the last axis, but the third of a depthwise kernel."""
    shape = tf.shape(kernel)
    flat = tf.reshape(kernel, kernel.shape[:3]) if depthwise else kernel
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(flat), axis=list(range(len(flat.shape) - 1))))
    largest = tf.maximum(largest, 1e-5)
    quantized = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        flat, -largest, largest, num_bits=8, narrow_range=True)
    return tf.reshape(quantized, shape)


def fake_quantize(x, pair):
    return tf.quantization.fake_quant_with_min_max_vars(x, pair[0], pair[1], num_bits=8)


class FakeQuantized(tf.Module):
    """The folded network with fake quantization. Kernels and biases train; ranges follow the activations slowly when
    asked to, except those of the heads."""

    def __init__(self, weights, ranges):
        super().__init__()
        self.values = {name: tf.Variable(value) for name, value in weights.items()}
        self.ranges = {name: tf.Variable(pair, trainable=False) for name, pair in ranges.items()}

    def __call__(self, x, follow):
        return quantized_network(self.values, self.ranges, x, self._follow if follow else None)

    def _follow(self, name, value):
        low = tf.reduce_mean(tf.reduce_min(value, axis=(1, 2, 3)))
        high = tf.reduce_mean(tf.reduce_max(value, axis=(1, 2, 3)))
        extremes = tf.stack([tf.minimum(low, 0.0), tf.maximum(high, 1e-3)])
        self.ranges[name].assign_add(RANGE_STEP * (extremes - self.ranges[name]))


def quantized_network(values, ranges, x, note=None):
    """Codes and logits of pictures in the input's range, each on its grid of 256 values. `note(name, x)` sees each
    activation before it is quantized."""
    def activation(name, x):
        if note:
            note(name, x)
        return fake_quantize(x, ranges[name])

    def conv(layer, x):
        kernel = fake_quantize_kernel(values[f"{layer.name}/kernel"], layer.depthwise)
        x = tf.nn.bias_add(convolve(layer, x, kernel), values[f"{layer.name}/bias"])
        if layer.head:
            return fake_quantize(x, ranges[layer.head])
        return activation(layer.name, tf.nn.relu6(x) if layer.relu6 else x)

    codes, logits = network(fake_quantize(x, INPUT_RANGE), conv, lambda name, a, b: activation(name, a + b))
    return fake_quantize(codes, ranges["codes"]), fake_quantize(logits, ranges["logits"])


def fine_tune(weights, ranges, batches, images, batch, rate, decay=0.998):
    """Quantization-aware training. Returns averaged values and final ranges, as numpy arrays. Ranges follow the
    activations during the first 40 % of the pictures and then stand."""
    network = FakeQuantized(weights, ranges)
    variables = list(network.values.values())
    average = Averages(network.values, decay)
    optimizer = tf.keras.optimizers.Adam(rate, global_clipnorm=10.0, jit_compile=False)
    optimizer.build(variables)
    places = tf.constant(anchors())
    steps = images // batch

    @tf.function(jit_compile=False)
    def learn(images, codes, labels, step, follow):
        with tf.GradientTape() as tape:
            predicted = network(quantized_input(images), follow)
            losses = detection_loss(*predicted, codes, labels, places)
            total = tf.add_n(losses)
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables))
        average.update(network.values, step)
        return tf.stack(losses)

    began, losses = time.monotonic(), []
    for step in range(steps):
        optimizer.learning_rate.assign(rate * min(1, (step + 1) / 50) * (0.01 + 0.99 * (1 + np.cos(np.pi * step / steps)) / 2))
        losses.append(learn(*map(tf.constant, next(batches)), tf.constant(step), step < FOLLOWING * steps))
        if (step + 1) % 50 == 0:
            spent = time.monotonic() - began
            parts = " ".join(f"{part:.4f}" for part in np.mean(losses, axis=0))
            print(f"step {step + 1} of {steps} loss {parts} {(step + 1) * batch / spent:.0f} images/s, "
                  f"{spent / (step + 1) * (steps - step - 1) / 60:.0f} min left", flush=True)
            losses = []
    return ({name: value.numpy() for name, value in average.values.items()},
            {name: tuple(pair.numpy().tolist()) for name, pair in network.ranges.items()})


def save(path, weights, ranges):
    """Weights, and ranges under `range/NAME`, in one compressed file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name("unfinished.npz")
    np.savez_compressed(unfinished, **weights, **{f"range/{name}": pair for name, pair in ranges.items()})
    os.replace(unfinished, path)


def load(path):
    """(weights, ranges) of a file; ranges are empty in one of float weights."""
    with np.load(path) as file:
        values = dict(file)
    ranges = {name[len("range/"):]: tuple(map(float, values.pop(name))) for name in list(values)
              if name.startswith("range/")}
    return values, ranges


def main():
    parser = argparse.ArgumentParser(description="Quantization-aware training of folded float weights.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--build", default="build", help="folder of all outputs")
    parser.add_argument("--weights", default="codes_float.npz", help="folded float weights")
    parser.add_argument("--output", help="weights and ranges; BUILD/qat/weights.npz unless given")
    parser.add_argument("--images", type=int, default=48000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-4, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    tf.keras.utils.set_random_seed(arguments.seed)
    weights, _ = load(arguments.weights)
    ranges = calibrate(weights, calibration_images(arguments.build))
    batches = Batches(Scenes(arguments.build, "train+decoys"), arguments.batch, arguments.seed)
    trained = fine_tune(weights, ranges, batches, arguments.images, arguments.batch, arguments.rate)
    save(Path(arguments.output or f"{arguments.build}/qat/weights.npz"), *trained)


if __name__ == "__main__":
    main()
