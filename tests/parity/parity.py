"""How far eyas is from LiteRT's default path, whole models and layer by layer, as Markdown tables.

Exit code 1 if a whole model is farther from LiteRT's default path than LiteRT's own reference kernels are, or a layer
on LiteRT's own inputs by more than one code.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import detections
import litert
import split_ops
from eyas_cli import EyasError, infer

QUANTIZED_TYPES = (3, 9)  # UINT8, INT8 of the schema


def is_quantized(model):
    """Whether a model has a tensor of 8-bit codes."""
    return any(tensor.type in QUANTIZED_TYPES for tensor in model.subgraphs[0].tensors)


def golden_inputs(path, model, content, golden):
    """The model's input from the golden data: a picture of its size, else random codes with a fixed seed."""
    details = litert.interpreter(content, "reference").get_input_details()
    record = golden / f"{path.name}.json"
    if record.exists() and len(details) == 1:
        picture = golden.parent.parent / json.loads(record.read_text())["input"]
        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB"))
    elif len(details) == 1 and len(details[0]["shape"]) == 4 and details[0]["shape"][3] == 3:
        _, height, width, _ = (int(n) for n in details[0]["shape"])
        picture = next(iter(sorted((golden / "inputs").glob("cat_*.png"))))
        pixels = detections.stretched(picture, width, height)
    else:
        random = np.random.default_rng(1)
        return [random.integers(0, 256, d["shape"]).astype(np.uint8).view(d["dtype"]) for d in details]
    return [detections.to_input(pixels, details[0]["dtype"])]


def distance(ours, theirs):
    """The largest and the mean absolute difference over all outputs; infinite if shapes or types differ."""
    largest, total, count = 0.0, 0.0, 0
    for a, b in zip(ours, theirs, strict=True):
        if a.dtype != b.dtype or a.size != b.size:
            return float("inf"), float("inf")
        difference = np.abs(a.reshape(-1).astype(np.float64) - b.reshape(-1).astype(np.float64))
        largest = max(largest, float(difference.max(initial=0)))
        total += float(difference.sum())
        count += difference.size
    return largest, total / max(count, 1)


def detection_distance(ours, theirs, order, threshold=0.1):
    """Of the detections above the threshold: largest and mean difference of scores and box edges. Unmatched: 1."""
    a, b = (detections.from_outputs(outputs, order) for outputs in (ours, theirs))
    differences = []
    for wanted, offered in ((a, b), (b, a)):
        for one, other in detections.match([d for d in wanted if d.score >= threshold], offered):
            if other is None:
                differences.append(1.0)
            else:
                differences += [abs(one.score - other.score), float(np.abs(one.box - other.box).max())]
    return max(differences, default=0.0), float(np.mean(differences)) if differences else 0.0


def whole_model(eyas, path, golden):
    """One row of the first table: name, unit, our distance, LiteRT's own, verdict."""
    content = path.read_bytes()
    inputs = golden_inputs(path, split_ops.read_model(content), content, golden)
    default, reference = litert.run(content, inputs), litert.run(content, inputs, "reference")
    order = detections.post_process_outputs(content)
    ours = infer(eyas, path, inputs)

    def measure(a, b):
        return detection_distance(a, b, order) if order else distance(a, b)

    mine, theirs = measure(ours, default), measure(default, reference)
    unit = "score, box" if order else ("code" if default[0].dtype != np.float32 else "real")
    return path.name, unit, mine, theirs, mine[0] <= theirs[0] and mine[1] <= theirs[1] + 1e-12


def layers(eyas, path, golden, folder):
    """Rows of the second table: operator, number of layers, outputs in all, differing outputs, largest difference."""
    content = path.read_bytes()
    model = split_ops.read_model(content)
    values = litert.run_keeping_all(content, golden_inputs(path, model, content, golden))
    rows, failures = {}, []
    for one in split_ops.cut_all(model):
        types = [model.subgraphs[0].tensors[i].type for i in one.inputs + one.outputs]
        if not any(kind in QUANTIZED_TYPES for kind in types):
            continue
        inputs = [values[i] for i in one.inputs]
        theirs = litert.run(one.content, inputs)
        file = folder / f"{path.stem}_{one.index}.tflite"
        file.write_bytes(one.content)
        where = f"{path.name}: operator {one.index} ({one.name})"
        try:
            ours = infer(eyas, file, inputs)
        except EyasError as error:
            failures.append(f"{where}: {error}")
            continue
        finally:
            file.unlink()
        row = rows.setdefault(one.name, [0, 0, 0, 0.0])
        largest, _ = distance(ours, theirs)
        row[0] += 1
        row[1] += sum(a.size for a in theirs)
        if np.isfinite(largest):
            row[2] += sum(int((a.reshape(-1) != b.reshape(-1)).sum()) for a, b in zip(ours, theirs))
        row[3] = max(row[3], largest)
        if not largest <= allowed(theirs):
            failures.append(f"{where}: {largest:g} from LiteRT")
    return rows, failures


def allowed(outputs):
    """One code; for real outputs a millionth of their range."""
    if outputs[0].dtype == np.float32:
        return 1e-6 * max(float(np.abs(outputs[0]).max(initial=0)), 1.0)
    return 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--models", required=True, type=Path, help="folder of .tflite files")
    parser.add_argument("--golden", type=Path, help="folder of golden inputs (default: data/golden beside --models)")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--skip-layers", action="store_true", help="whole models only")
    arguments = parser.parse_args()
    golden = arguments.golden or arguments.models.resolve().parent / "data" / "golden"
    paths = [p for p in sorted(arguments.models.glob("*.tflite")) if arguments.only in p.name]
    paths = [p for p in paths if is_quantized(split_ops.read_model(p.read_bytes()))]
    if not paths:
        sys.exit(f"no quantized .tflite in {arguments.models}")
    failures = []

    print("## Whole models, on the golden inputs\n")
    print("Distance: eyas to LiteRT's default path; LiteRT's reference kernels to its default path.\n")
    print("| model | unit | eyas max | eyas mean | LiteRT max | LiteRT mean | verdict |\n|---|---|---|---|---|---|---|")
    for path in paths:
        try:
            name, unit, mine, theirs, good = whole_model(arguments.eyas, path, golden)
        except EyasError as error:
            failures.append(f"{path.name}: {error}")
            print(f"| {path.name} | | | | | | failed |", flush=True)
            continue
        verdict = "ok" if good else "FARTHER"
        print(f"| {name} | {unit} | {mine[0]:.4g} | {mine[1]:.4g} | {theirs[0]:.4g} | {theirs[1]:.4g} | {verdict} |", flush=True)
        if not good:
            failures.append(f"{path.name}: farther from LiteRT's default path than its reference kernels")

    if not arguments.skip_layers:
        print("\n## Layer by layer, on LiteRT's own layer inputs\n")
        print("| model | operator | layers | outputs | differing | largest difference |\n|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            for path in paths:
                rows, wrong = layers(arguments.eyas, path, golden, Path(folder))
                failures += wrong
                for name, (count, total, differing, largest) in rows.items():
                    print(f"| {path.name} | {name} | {count} | {total} | {differing} | {largest:.3g} |", flush=True)

    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
