"""Writes `.tflite` files that end in TFLite_Detection_PostProcess, with their labels: float32, quantized after
training, and quantized in training; and checks them."""

import argparse
import os
import zipfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from dataset import Scenes, resize
from evaluate import float_network, model_input, predictions, runner
from model import CLASSES, INPUT_SIZE, anchors, infer
from quantization import (SCORE_RANGE, calibration_images, fake_quantize, load, quantized_input, quantized_network)
from targets import LEAST_SCORE, MOST_DETECTIONS, MOST_OVERLAP

POST_PROCESS = {
    "max_detections": f"i: {MOST_DETECTIONS}", "max_classes_per_detection": "i: 1", "detections_per_class": "i: 100",
    "use_regular_nms": "b: true", "nms_score_threshold": f"f: {LEAST_SCORE}", "nms_iou_threshold": f"f: {MOST_OVERLAP}",
    "num_classes": f"i: {len(CLASSES)}", "y_scale": "f: 10.0", "x_scale": "f: 10.0", "h_scale": "f: 5.0",
    "w_scale": "f: 5.0",
}
# The share of busy scenes without a code that may give a detection of one class at the threshold 0.5.
FALSE_ALARMS = 0.006
# Mean differences between LiteRT and the network, where something is found.
SCORE_TOLERANCE, CODE_TOLERANCE = 0.01, 0.1


def post_process():
    """A function that the converter replaces by the custom operator; what it computes itself is never used."""
    attributes = " ".join(f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in POST_PROCESS.items())

    @tf.function(experimental_implements=f'name: "TFLite_Detection_PostProcess" {attributes}', autograph=False)
    def stand_in(codes, scores, places):
        return (tf.zeros([1, MOST_DETECTIONS, 4]), tf.zeros([1, MOST_DETECTIONS]), tf.zeros([1, MOST_DETECTIONS]),
                tf.zeros([1]))

    return stand_in


def converter(heads):
    """A converter for `heads(pictures) -> codes, scores` followed by the post-processing."""
    module, places = tf.Module(), anchors()
    finish = post_process()

    @tf.function(input_signature=[tf.TensorSpec((1, INPUT_SIZE, INPUT_SIZE, 3), tf.float32, name="image")])
    def detect(image):
        boxes, classes, scores, count = finish(*heads(image), tf.constant(places))
        return {"boxes": boxes, "classes": classes, "scores": scores, "count": count}

    module.detect = detect
    result = tf.lite.TFLiteConverter.from_concrete_functions([detect.get_concrete_function()], module)
    result.allow_custom_ops = True
    return result


def float_model(weights):
    constants = {name: tf.constant(value) for name, value in weights.items()}

    def heads(x):
        codes, logits = infer(constants, x)
        return codes, tf.sigmoid(logits)

    return converter(heads)


def post_training_model(weights, images):
    result = float_model(weights)
    result.optimizations = [tf.lite.Optimize.DEFAULT]
    result.representative_dataset = lambda: ([image[None].astype(np.float32) / 127.5 - 1] for image in images)
    result.inference_input_type = tf.uint8
    return result


def trained_model(weights, ranges):
    constants = {name: tf.constant(value) for name, value in weights.items()}

    def heads(x):
        codes, logits = quantized_network(constants, ranges, x)
        return codes, fake_quantize(tf.sigmoid(logits), SCORE_RANGE)

    result = converter(heads)
    result.optimizations = [tf.lite.Optimize.DEFAULT]
    result.inference_input_type = tf.uint8
    return result


def write(path, model):
    """Converts, and packs the label file into the model as a zip at its end, where TFLite metadata readers look."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(model.convert())
    entry = zipfile.ZipInfo("labels.txt", (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(unfinished, "a") as archive:
        archive.writestr(entry, label_text())
    os.replace(unfinished, path)
    print(f"{path}: {path.stat().st_size} bytes", flush=True)


def label_text():
    return "".join(f"{name}\n" for name in CLASSES)


def quiet_shift(found):
    """For each class what to add to its logits so that at most `FALSE_ALARMS` of these scenes, none of which holds a
    code, give a detection of that class at 0.5. Never positive."""
    shifts = []
    for label in range(len(CLASSES)):
        best = sorted((max(scores[classes == label], default=0.0) for _, classes, scores in found), reverse=True)
        loudest = max(best[int(FALSE_ALARMS * len(found))], 0.5)
        shifts.append(np.log((1 - loudest) / loudest))
    return np.array(shifts, np.float32)


def shifted(weights, shifts):
    """Weights whose logit biases carry the shifts."""
    return {name: value + np.tile(shifts, len(value) // len(shifts)) if name.endswith("/logits/bias") else value
            for name, value in weights.items()}


def calibrated(network_of, weights, decoys):
    """Weights with shifted logits, judged on scenes without a code by the network that `network_of` makes of them."""
    shifts = quiet_shift(predictions(runner(network_of(weights)), decoys))
    print("logit shifts:", " ".join(f"{name} {shift:+.2f}" for name, shift in zip(CLASSES, shifts)), flush=True)
    return shifted(weights, shifts)


def trained_network(weights, ranges):
    constants = {name: tf.constant(value) for name, value in weights.items()}
    return lambda images: quantized_network(constants, ranges, quantized_input(images))


def check_integer(path):
    """Fails unless every convolution has int8 weights with a scale for each channel, and bytes are converted only at
    the input and before the post-processing."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    for operator in operators:
        if operator["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weight, bias = (tensors[index] for index in operator["inputs"][1:3])
            channels = weight["shape"][-1 if operator["op_name"].startswith("DEPTHWISE") else 0]
            parameters = weight["quantization_parameters"]
            good = (weight["dtype"] == np.int8 and bias["dtype"] == np.int32
                    and len(parameters["scales"]) == channels and not parameters["zero_points"].any())
            if not good:
                raise SystemExit(f"{path}: the weights of {weight['name']} are not int8 per channel")
    counts = Counter(operator["op_name"] for operator in operators)
    print(" ".join(f"{name} {count}" for name, count in counts.items()))
    if counts["QUANTIZE"] > 1 or counts["DEQUANTIZE"] > 2 or counts["TFLite_Detection_PostProcess"] != 1:
        raise SystemExit(f"{path}: quantized anew between layers: {counts}")
    print(f"{path}: {counts['CONV_2D'] + counts['DEPTHWISE_CONV_2D']} convolutions, all int8 per channel")


def check_agreement(path, network, scenes):
    """Fails unless LiteRT computes for `path` the scores, and where something is found the box codes, of `network`,
    which takes pictures to codes and logits. Rounding differs here and there by a step and spreads through the layers,
    so means are compared."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    ends = [op for op in interpreter._get_ops_details() if op["op_name"] == "TFLite_Detection_PostProcess"]
    code_errors, score_errors = [], []
    for index in range(min(50, len(scenes))):
        image = resize(scenes[index][0], INPUT_SIZE, INPUT_SIZE)[None]
        interpreter.set_tensor(source["index"], model_input(image, source["dtype"]))
        interpreter.invoke()
        codes, scores = (interpreter.get_tensor(tensor) for tensor in ends[0]["inputs"][:2])
        wanted_codes, logits = network(image)
        wanted_scores = tf.sigmoid(logits).numpy()
        found = np.maximum(wanted_scores, scores).max(axis=-1) > 0.3
        score_errors.append(np.abs(scores - wanted_scores)[found].max(axis=-1))
        code_errors.append(np.abs(codes - wanted_codes.numpy())[found].ravel())
    score_errors, code_errors = np.concatenate(score_errors), np.concatenate(code_errors)
    print(f"{path}: differs from the network by {score_errors.mean():.4f} (at most {score_errors.max():.3f}) in score, "
          f"{code_errors.mean():.4f} (at most {code_errors.max():.3f}) in box codes")
    if score_errors.mean() > SCORE_TOLERANCE or code_errors.mean() > CODE_TOLERANCE:
        raise SystemExit(f"{path}: LiteRT disagrees with the network that was trained")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build", help="folder of all outputs")
    parser.add_argument("--weights", default="codes_float.npz", help="folded float weights")
    parser.add_argument("--float", type=Path, metavar="FILE", help="write the float model here")
    parser.add_argument("--post-training", type=Path, metavar="FILE", help="write a model quantized after training")
    parser.add_argument("--trained", type=Path, metavar="FILE", help="write the model quantized in training")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="write the label file")
    arguments = parser.parse_args()
    scenes, decoys = Scenes(arguments.build, "validation"), Scenes(arguments.build, "decoys_validation")
    if arguments.labels:
        arguments.labels.parent.mkdir(parents=True, exist_ok=True)
        arguments.labels.write_text(label_text())
    if arguments.float or arguments.post_training:
        weights = calibrated(float_network, load(arguments.weights)[0], decoys)
    if arguments.float:
        write(arguments.float, float_model(weights))
        check_agreement(arguments.float, float_network(weights), scenes)
    if arguments.post_training:
        write(arguments.post_training, post_training_model(weights, calibration_images(arguments.build)))
    if arguments.trained:
        weights, ranges = load(Path(arguments.build) / "qat" / "weights.npz")
        weights = calibrated(lambda values: trained_network(values, ranges), weights, decoys)
        write(arguments.trained, trained_model(weights, ranges))
        check_integer(arguments.trained)
        check_agreement(arguments.trained, trained_network(weights, ranges), scenes)


if __name__ == "__main__":
    main()
