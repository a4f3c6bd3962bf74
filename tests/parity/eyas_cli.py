"""Calls the `eyas` binary."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np


class EyasError(Exception):
    """The binary's exit code was not 0; the text is its last line on stderr."""


def call(eyas, *arguments):
    """Runs `eyas` with the arguments; returns its stdout."""
    done = subprocess.run([str(eyas), *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise EyasError(f"exit code {done.returncode}: {lines[-1][:300]}")
    return done.stdout


def infer(eyas, model, inputs):
    """Outputs of `eyas infer` in the model's order. `--input` is given once for each input, in the model's order."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        arguments = ["infer", "-m", model]
        for number, data in enumerate(inputs):
            path = folder / f"input{number}.npy"
            np.save(path, data)
            arguments += ["--input", path]
        out = folder / "out"
        call(eyas, *arguments, "--out", out)
        index = json.loads((out / "index.json").read_text())
        return [np.load(out / entry["file"]) for entry in index["outputs"]]


def detect(eyas, model, pictures, confidence):
    """`eyas detect --json` on picture files: for each the list of its detections, in the order of `pictures`."""
    text = call(eyas, "detect", "-m", model, "-c", confidence, "--json", *pictures)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    if len(lines) != len(pictures):
        raise EyasError(f"{len(lines)} answers to {len(pictures)} pictures")
    return [line["detections"] for line in lines]
