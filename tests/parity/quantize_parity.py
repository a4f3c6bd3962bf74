"""Files that `eyas quantize` writes, in LiteRT.

Every mode is written from one float model and run in LiteRT on pictures. The outputs before detection post-processing, or
the model's outputs, must be as close to those of the float model as the mode allows. Where the model detects and eyas runs
the file, eyas must find in it what LiteRT finds, as `detect_parity.py` has it. Exit code 1 if a bound is broken.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import litert
import split_ops
from detect_parity import BOX_TOLERANCE, POSSIBLE, SCORE_TOLERANCE, compare, prepare
from detections import POST_PROCESS, LiteRtDetector, from_eyas, post_process_outputs, stretched, to_input
from eyas_cli import EyasError, detect

# Flags, and the least signal-to-quantization-noise ratio in dB that outputs have.
CASES = [
    ("", 10), ("--weights per-tensor", 3), ("--method percentile", 10), ("--method entropy", 8), ("--method mse", 10),
    ("--input int8", 10), ("--input float32", 10), ("--keep-float 5", 10), ("--keep-int16 5", 10), ("--bits 16", 20),
    ("--mode dynamic", 20), ("--mode weights", 20),
]


def heads(content):
    """The file with what its post-processing reads as outputs; the file itself if it has none."""
    model = split_ops.read_model(content)
    graph = model.subgraphs[0]
    for index, operator in enumerate(graph.operators):
        if split_ops.operator_name(model, operator) == POST_PROCESS:
            graph.outputs = [int(i) for i in operator.inputs[:2]]
            del graph.operators[index]
            return split_ops.write_model(model)
    return content


def answers(path, pictures):
    """The real outputs on every picture."""
    engine = litert.interpreter(heads(path.read_bytes()))
    detail = engine.get_input_details()[0]
    _, height, width, _ = detail["shape"]
    return [
        [output.astype(np.float64) for output in litert.invoke(engine, [to_input(stretched(picture, width, height), detail["dtype"])])]
        for picture in pictures
    ]


def decibels(real, other):
    """The mean of the signal-to-quantization-noise ratio over the outputs that are not all 0."""
    ratios = []
    for index in range(len(real[0])):
        signal = sum(float((a[index] ** 2).sum()) for a in real)
        noise = sum(float(((a[index] - b[index]) ** 2).sum()) for a, b in zip(real, other))
        if signal > 0:
            ratios.append(10 * np.log10(signal / max(noise, 1e-30)))
    return float(np.mean(ratios))


def same_objects(eyas, path, pictures):
    """In words, whether eyas and LiteRT find the same in a file; and whether that is good."""
    if post_process_outputs(path.read_bytes()) is None:
        return "-", True
    detector = LiteRtDetector(path)
    with tempfile.TemporaryDirectory() as folder:
        files, pixels = prepare(pictures, detector, Path(folder))
        try:
            answers = detect(eyas, path, files, POSSIBLE)
        except EyasError as error:
            return "not run by eyas", "int16" in str(error)
    judged = [compare(from_eyas(answer, detector.width, detector.height), detector.detect(data))
              for answer, data in zip(answers, pixels)]
    complaints = sum(len(complaints) for *_, complaints in judged)
    score, box = (max(one[position] for one in judged) for position in (1, 2))
    text = f"{sum(one[0] for one in judged)}, {complaints} missed, scores {score:.4f}, edges {box:.4f} apart"
    return text, not complaints and score <= SCORE_TOLERANCE and box <= BOX_TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--model", required=True, type=Path, help="a float .tflite file that takes pictures from -1 to 1")
    parser.add_argument("--calibrate", required=True, type=Path, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=20, help="pictures to calibrate and compare with")
    arguments = parser.parse_args()
    pictures = sorted(path for path in arguments.calibrate.iterdir() if path.suffix in (".jpg", ".png"))[:arguments.pictures]
    real = answers(arguments.model, pictures)
    bad = False
    print("| flags | bytes | SQNR in LiteRT, dB | bound | objects in eyas and LiteRT | verdict |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "quantized.tflite"
        for flags, bound in CASES:
            command = [arguments.eyas, "quantize", arguments.model, "--calibrate", arguments.calibrate, "-o", made,
                       "--pictures", str(arguments.pictures), *flags.split()]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            found = decibels(real, answers(made, pictures))
            objects, same = same_objects(arguments.eyas, made, pictures)
            good = found >= bound and same
            bad = bad or not good
            size = made.stat().st_size
            print(f"| {flags or 'defaults'} | {size} | {found:.1f} | {bound} | {objects} | {'ok' if good else 'TOO FAR'} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
