"""Cuts single operators out of a .tflite file, each as a model of its own."""

import copy
from dataclasses import dataclass

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

OPERATOR_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}


@dataclass
class OneOp:
    """One operator as a model. `inputs` and `outputs` are tensor indices of the model it came from."""

    index: int
    name: str
    content: bytes
    inputs: list
    outputs: list


def read_model(content):
    """The object tree of a .tflite file."""
    return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)


def write_model(model):
    """The bytes of a .tflite file."""
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operator_name(model, operator):
    """`CONV_2D`, or the custom operator's own name."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return code.customCode.decode() if isinstance(code.customCode, bytes) else code.customCode
    return OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def has_data(model, tensor):
    """Whether a tensor is a constant of the file."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def cut(model, index):
    """The operator at `index` of the first subgraph as a model whose inputs are its non-constant inputs."""
    graph = model.subgraphs[0]
    operator = copy.copy(graph.operators[index])
    code = copy.copy(model.operatorCodes[operator.opcodeIndex])
    small = schema.ModelT()
    small.version = 3
    small.description = "one operator"
    small.operatorCodes = [code]
    small.buffers = [schema.BufferT()]
    small.buffers[0].data = None
    part = schema.SubGraphT()
    part.name = b"main"
    part.tensors, new_index = [], {}

    def take(old):
        if old < 0:
            return -1
        if old not in new_index:
            tensor = copy.copy(graph.tensors[old])
            buffer = schema.BufferT()
            buffer.data = model.buffers[tensor.buffer].data
            tensor.buffer = 0
            if buffer.data is not None and len(buffer.data) > 0:
                small.buffers.append(buffer)
                tensor.buffer = len(small.buffers) - 1
            new_index[old] = len(part.tensors)
            part.tensors.append(tensor)
        return new_index[old]

    name = operator_name(model, operator)
    used = [int(i) for i in operator.inputs]
    made = [int(i) for i in operator.outputs]
    operator.opcodeIndex = 0
    operator.inputs = [take(i) for i in used]
    operator.outputs = [take(i) for i in made]
    fed = [i for i in dict.fromkeys(used) if i >= 0 and not has_data(model, graph.tensors[i])]
    part.inputs = [new_index[i] for i in fed]
    part.outputs = list(operator.outputs)
    part.operators = [operator]
    small.subgraphs = [part]
    return OneOp(index, name, write_model(small), fed, made)


def cut_all(model):
    """Every operator of the first subgraph, in order."""
    return [cut(model, index) for index in range(len(model.subgraphs[0].operators))]
