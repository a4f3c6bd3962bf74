"""Runs TFLite models in LiteRT: its default path (XNNPACK), its built-in kernels, its reference kernels."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

RESOLVERS = {
    "default": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def interpreter(model, kernels="default", keep_all=False):
    """An interpreter with its tensors allocated. `model` is the bytes of a .tflite file."""
    engine = Interpreter(
        model_content=bytes(model),
        num_threads=1,
        experimental_op_resolver_type=RESOLVERS[kernels],
        experimental_preserve_all_tensors=keep_all,
    )
    engine.allocate_tensors()
    return engine


def invoke(engine, inputs):
    """Sets the inputs in the model's order, runs, and returns the outputs in the model's order."""
    for detail, data in zip(engine.get_input_details(), inputs, strict=True):
        engine.set_tensor(detail["index"], np.ascontiguousarray(data).astype(detail["dtype"], copy=False))
    engine.invoke()
    return [engine.get_tensor(detail["index"]) for detail in engine.get_output_details()]


def run(model, inputs, kernels="default"):
    """Outputs of one run."""
    return invoke(interpreter(model, kernels), inputs)


def run_keeping_all(model, inputs, kernels="reference"):
    """Every readable tensor of one run, by its index in the file. Needs kernels without a delegate."""
    assert kernels != "default", "the delegate hides intermediate tensors"
    engine = interpreter(model, kernels, keep_all=True)
    invoke(engine, inputs)
    values = {}
    for detail in engine.get_tensor_details():
        try:
            values[detail["index"]] = engine.get_tensor(detail["index"])
        except ValueError:
            pass
    return values


def is_delegated(model):
    """Whether the default path hands every operator of the model to XNNPACK."""
    names = [op["op_name"] for op in interpreter(model)._get_ops_details()]
    return "DELEGATE" in names
