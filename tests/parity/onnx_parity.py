"""How far eyas is from ONNX Runtime on .onnx files, whole models and, of quantized ones, layer by layer.

Whole models run on the golden pictures. A layer is what stands between DequantizeLinear and QuantizeLinear; it is cut
out and run alone, on the codes that it has in ONNX Runtime. Exit code 1 if a float model differs by more than 0.001, or
a layer by more than one code.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image

from eyas_cli import EyasError, infer

FLOAT_BOUND = 1e-3


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def golden_input(record, models):
    """The picture of a golden record as NCHW reals, normalized as the record says."""
    with Image.open(models.parent / record["input"]) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float64)
    mean, std = (np.array(json.loads(part)) for part in re.findall(r"\[.*?\]", record["input_normalisation"])[:2])
    return ((pixels - mean) / std).astype(np.float32).transpose(2, 0, 1)[np.newaxis]


class Layers:
    """The layers of a quantized model, with the codes that they have in ONNX Runtime."""

    def __init__(self, model, feed):
        self.model = model
        graph = model.graph
        self.constants = {t.name: t for t in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        depends = {i.name for i in graph.input if i.name not in self.constants}
        for node in graph.node:
            if depends.intersection(node.input):
                depends.update(node.output)
        self.quantizers = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.output[0] in depends]
        self.codes = dict(feed)
        self.codes.update(self.run_all(feed))

    def run_all(self, feed):
        """The codes of every QuantizeLinear."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        for node in self.quantizers:
            model.graph.output.append(helper.make_tensor_value_info(node.output[0], self.code_type(node), None))
        runner = session(model)
        return dict(zip([o.name for o in runner.get_outputs()], runner.run(None, feed), strict=True))

    def code_type(self, node):
        return self.constants[node.input[2]].data_type if len(node.input) > 2 else onnx.TensorProto.UINT8

    def cut(self, quantizer):
        """A model that ends in a QuantizeLinear and starts at the codes before it, and the names of these."""
        nodes, inputs, wanted, kinds = [], [], [quantizer.output[0]], []
        while wanted:
            name = wanted.pop()
            if name in inputs or name in self.constants or any(name in node.output for node in nodes):
                continue
            is_start = name in self.codes and name != quantizer.output[0]
            if is_start or name not in self.makers:
                inputs.append(name)
                continue
            node = self.makers[name]
            nodes.append(node)
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Constant"):
                kinds.append(node.op_type)
            wanted += [n for n in node.input if n]
        order = {id(n): i for i, n in enumerate(self.model.graph.node)}
        nodes.sort(key=lambda n: order[id(n)])
        used = {n for node in nodes for n in node.input}
        of_value = lambda name: helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(self.codes[name].dtype), self.codes[name].shape)
        graph = helper.make_graph(
            nodes, "layer", [of_value(n) for n in inputs], [of_value(quantizer.output[0])],
            [t for t in self.constants.values() if t.name in used])
        small = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        return small, inputs, "+".join(reversed(kinds)) or "QuantizeLinear"


def layers(eyas, path, model, feed, folder):
    """For each kind of layer: how many, elements, differing ones, the largest difference; and complaints."""
    cut_out = Layers(model, feed)
    rows, wrong = defaultdict(lambda: [0, 0, 0, 0]), []
    for number, quantizer in enumerate(cut_out.quantizers):
        small, inputs, kind = cut_out.cut(quantizer)
        data = [cut_out.codes[name] for name in inputs]
        (theirs,) = session(small).run(None, dict(zip(inputs, data, strict=True)))
        file = folder / f"{number}.onnx"
        onnx.save(small, file)
        try:
            (ours,) = infer(eyas, file, data)
        except EyasError as error:
            if "no operator" in str(error):  # codes go out as they came in
                continue
            wrong.append(f"{path.name}: {kind} {quantizer.output[0]}: {error}")
            continue
        difference = np.abs(ours.astype(np.int32) - theirs.astype(np.int32))
        row = rows[kind]
        row[0] += 1
        row[1] += difference.size
        row[2] += int((difference > 0).sum())
        row[3] = max(row[3], int(difference.max()))
        if difference.max() > 1:
            wrong.append(f"{path.name}: {kind} {quantizer.output[0]}: {difference.max()} codes away")
    return rows, wrong


def step(model, output):
    """The real value of one code of an output; 0 of a float model."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers[output]
    return float(constants[node.input[1]]) if node.op_type == "DequantizeLinear" else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--models", required=True, type=Path, help="folder of .onnx models, data/golden beside it")
    parser.add_argument("--only", default="", help="part of the names of the models to look at")
    parser.add_argument("--skip-layers", action="store_true", help="whole models only")
    arguments = parser.parse_args()
    golden = arguments.models.parent / "data" / "golden"
    paths = [p for p in sorted(arguments.models.rglob("*.onnx")) if arguments.only in p.name]
    failures, tables = [], []
    print("| model | output | elements | largest difference | mean | in codes |\n|---|---|---|---|---|---|")
    for path in paths:
        model = onnx.load(path)
        record = json.loads((golden / f"{path.name}.json").read_text())
        data = golden_input(record, arguments.models)
        runner = session(model)
        feed = {runner.get_inputs()[0].name: data}
        theirs = runner.run(None, feed)
        try:
            ours = infer(arguments.eyas, path, [data])
        except EyasError as error:
            failures.append(f"{path.name}: {error}")
            continue
        is_quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        for output, a, b in zip(runner.get_outputs(), ours, theirs, strict=True):
            difference = np.abs(a.astype(np.float64) - b)
            largest, code = float(difference.max()), step(model, output.name)
            codes = f"{largest / code:.0f}" if code else ""
            print(f"| {path.name} | {output.name} | {a.size} | {largest:.3g} | {difference.mean():.3g} | {codes} |", flush=True)
            if a.shape != b.shape or not is_quantized and largest > FLOAT_BOUND:
                failures.append(f"{path.name}: {output.name} differs by {largest}")
        if is_quantized and not arguments.skip_layers:
            with tempfile.TemporaryDirectory() as folder:
                rows, wrong = layers(arguments.eyas, path, model, feed, Path(folder))
            failures += wrong
            tables += [f"| {path.name} | {kind} | {' | '.join(map(str, row))} |" for kind, row in sorted(rows.items())]
    if tables:
        print("\n| model | layer | layers | elements | differing | largest difference, codes |\n|---|---|---|---|---|---|")
        print("\n".join(tables))
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
