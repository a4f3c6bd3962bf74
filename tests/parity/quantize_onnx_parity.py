"""QDQ files that `eyas quantize` writes, in ONNX Runtime and in eyas.

Every mode is written from one float .onnx file, checked by `onnx.checker` and run in ONNX Runtime on pictures. The outputs
must be as close to those of the float model as the mode allows, and eyas must give ONNX Runtime's answers to the file that it
runs in integers: every layer within one code. Exit code 1 if a bound is broken.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from detections import stretched
from eyas_cli import infer
from onnx_parity import layers, session, step
from quantize_parity import decibels

# Flags, and the least signal-to-quantization-noise ratio in dB that outputs have.
CASES = [
    ("", 10), ("--weights per-tensor", 3), ("--method percentile", 10), ("--method mse", 10), ("--input uint8", 10),
    ("--input int8", 10), ("--keep-float 5", 10), ("--bits 16", 20), ("--mode weights", 20),
]


class Runtime:
    """An .onnx file in ONNX Runtime, on pictures."""

    def __init__(self, model, mean, std):
        self.session = session(model)
        (self.input,) = self.session.get_inputs()
        _, _, self.height, self.width = self.input.shape
        self.mean, self.std = mean, std

    def feed(self, picture):
        pixels = stretched(picture, self.width, self.height).reshape(1, self.height, self.width, 3)
        if "uint8" in self.input.type:
            data = pixels
        elif "int8" in self.input.type:
            data = (pixels.astype(np.int16) - 128).astype(np.int8)
        else:
            data = ((pixels.astype(np.float32) - self.mean) / self.std).astype(np.float32)
        return {self.input.name: data.transpose(0, 3, 1, 2)}

    def run(self, picture):
        return [output.astype(np.float64) for output in self.session.run(None, self.feed(picture))]


def same_top(real, other):
    """On how many pictures the only output's largest element is the same; None if there are several outputs."""
    if len(real[0]) != 1:
        return None
    return sum(int(a[0].argmax() == b[0].argmax()) for a, b in zip(real, other))


def from_eyas(eyas, path, model, runtime, pictures):
    """The largest and the mean distance of eyas's outputs to ONNX Runtime's, in codes, over all outputs."""
    distances = []
    for picture in pictures:
        (data,) = runtime.feed(picture).values()
        theirs = runtime.run(picture)
        for output, mine, other in zip(model.graph.output, infer(eyas, path, [data]), theirs, strict=True):
            distances.append(np.abs(mine - other).ravel() / (step(model, output.name) or 1))
    distances = np.concatenate(distances)
    return distances.max(), distances.mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--model", required=True, type=Path, help="a float .onnx file that takes pictures, NCHW")
    parser.add_argument("--calibrate", required=True, type=Path, help="folder of pictures")
    parser.add_argument("--test", type=Path, help="folder of pictures to compare on [default: those above]")
    parser.add_argument("--pictures", type=int, default=20, help="pictures to calibrate with")
    parser.add_argument("--test-pictures", type=int, default=20, help="pictures to compare on")
    parser.add_argument("--mean", type=float, default=127.5, help="mean of the pixels")
    parser.add_argument("--std", type=float, default=127.5, help="what the pixels less their mean are divided by")
    parser.add_argument("--only", help="flags of one case, instead of all")
    arguments = parser.parse_args()
    folder = arguments.test or arguments.calibrate
    pictures = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))[:arguments.test_pictures]
    runtime = Runtime(onnx.load(arguments.model), arguments.mean, arguments.std)
    real = [runtime.run(picture) for picture in pictures]
    cases = CASES if arguments.only is None else [(arguments.only, 0)]
    bad, complaints = False, []
    print("| flags | bytes | SQNR in ONNX Runtime, dB | same top class | eyas to ONNX Runtime, codes: largest, mean | layers | largest of a layer |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "quantized.onnx"
        for flags, bound in cases:
            command = [arguments.eyas, "quantize", arguments.model, "--calibrate", arguments.calibrate, "-o", made,
                       "--pictures", str(arguments.pictures), "--mean", str(arguments.mean), "--std", str(arguments.std), *flags.split()]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            model = onnx.load(made)
            onnx.checker.check_model(model, full_check=True)
            quantized = Runtime(model, arguments.mean, arguments.std)
            answers = [quantized.run(picture) for picture in pictures]
            found, top = decibels(real, answers), same_top(real, answers)
            top = "" if top is None else f"{top} of {len(pictures)}"
            distance = count = worst = ""
            if not any(flag in flags for flag in ("--bits", "--keep", "--mode")):
                largest, mean = from_eyas(arguments.eyas, made, model, quantized, pictures[:4])
                distance = f"{largest:.0f}, {mean:.3f}"
                rows, wrong = layers(arguments.eyas, made, model, quantized.feed(pictures[0]), Path(scratch))
                complaints += wrong
                count, worst = sum(row[0] for row in rows.values()), max(row[3] for row in rows.values())
            bad = bad or found < bound
            print(f"| {flags or 'defaults'} | {made.stat().st_size} | {found:.1f} | {top} | {distance} | {count} | {worst} |", flush=True)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    sys.exit(1 if bad or complaints else 0)


if __name__ == "__main__":
    main()
