"""Makes `colours_float.tflite`, the model of `../demo` with real numbers in place of codes.

Constants become the real values of their codes, activations real; the operators that quantize and dequantize go. The logits,
which codes cut off at 6.4, are scaled down instead, so that scores differ from 1.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "parity"))
from split_ops import operator_name, read_model, write_model  # noqa: E402

FLOAT32 = 0
CODES = {2: np.int32, 3: np.uint8, 9: np.int8}
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
LOGITS, GAIN = "t6", 0.3


def real_values(tensor, data):
    """The real values of a constant's codes."""
    quant, shape = tensor.quantization, [int(dim) for dim in tensor.shape]
    codes = np.frombuffer(data.tobytes(), CODES[tensor.type]).reshape(shape).astype(np.float64)
    along = [1] * len(shape)
    if len(quant.scale) > 1:
        along[quant.quantizedDimension] = -1
    scale, zero = (np.asarray(values, np.float64).reshape(along) for values in (quant.scale, quant.zeroPoint))
    return ((codes - zero) * scale).astype(np.float32)


def to_float(content):
    """The bytes of the same model in float."""
    model = read_model(content)
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        quant = tensor.quantization
        if tensor.type not in CODES or quant is None or quant.scale is None or len(quant.scale) == 0:
            continue
        buffer = model.buffers[tensor.buffer]
        if buffer.data is not None and len(buffer.data):
            buffer.data = np.frombuffer(real_values(tensor, buffer.data).tobytes(), np.uint8)
        tensor.type, tensor.quantization = FLOAT32, None
    same = {}
    kept = []
    for operator in graph.operators:
        operator.inputs = [same.get(int(index), int(index)) for index in operator.inputs]
        if operator_name(model, operator) in CONVERSIONS:
            same[int(operator.outputs[0])] = operator.inputs[0]
        else:
            kept.append(operator)
    graph.operators = kept
    for operator in kept:
        if graph.tensors[operator.outputs[0]].name == LOGITS.encode():
            for index in operator.inputs[1:]:
                buffer = model.buffers[graph.tensors[index].buffer]
                buffer.data = (np.frombuffer(buffer.data.tobytes(), np.float32) * np.float32(GAIN)).view(np.uint8)
    graph.outputs = [same.get(int(index), int(index)) for index in graph.outputs]
    return write_model(model)


if __name__ == "__main__":
    made = to_float((HERE.parent / "demo" / "colours.tflite").read_bytes())
    (HERE / "colours_float.tflite").write_bytes(made)
    print(f"colours_float.tflite: {len(made)} bytes")
