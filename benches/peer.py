"""One inference engine, measured when asked: what `eyas bench --on-request` is for eyas.

The first line on stdout says that the model is loaded and has warmed up. Each line of stdin, a number of runs, is then
answered by a line of JSON with the time of each run. The end of stdin ends the program.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import numpy as np

WARM_UP_RUNS, WARM_UP_SECONDS = 3, 0.3


def arbitrary(shape, dtype):
    """The input that `eyas bench` uses: all codes for 8-bit inputs, 0 to 1 for real ones."""
    count, state, codes = int(np.prod(shape)), 1, bytearray()
    for _ in range(count):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFF_FFFF
        codes.append(state >> 24)
    codes = np.frombuffer(bytes(codes), np.uint8)
    if np.issubdtype(dtype, np.floating):
        return (codes / 255).astype(dtype).reshape(shape)
    return codes.view(np.int8 if dtype == np.int8 else np.uint8).astype(dtype).reshape(shape)


def litert(model, threads, is_default):
    """LiteRT, with its default delegate (XNNPACK) or with the built-in kernels alone."""
    from ai_edge_litert import interpreter as lib

    yield
    kinds = lib.OpResolverType
    kind = kinds.AUTO if is_default else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    engine = lib.Interpreter(model_path=str(model), num_threads=threads, experimental_op_resolver_type=kind)
    engine.allocate_tensors()
    for put in engine.get_input_details():
        engine.set_tensor(put["index"], arbitrary(put["shape"], put["dtype"]))
    yield engine.invoke


def onnxruntime(model, threads):
    """ONNX Runtime's CPU provider, inputs and outputs bound once."""
    import onnxruntime as lib

    yield
    options = lib.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = lib.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    dtypes = {"tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    binding = session.io_binding()
    for put in session.get_inputs():
        shape = [side if isinstance(side, int) else 1 for side in put.shape]
        binding.bind_cpu_input(put.name, arbitrary(shape, dtypes[put.type]))
    for put in session.get_outputs():
        binding.bind_output(put.name)
    yield lambda: session.run_with_iobinding(binding)


def ncnn(model, threads):
    """ncnn; with weights of zeros, as in its own benchmark, where no `.bin` lies beside the `.param`."""
    import ncnn as lib

    yield
    net = lib.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute = threads, False
    if net.load_param(str(model)) != 0:
        raise RuntimeError(f"{model}: ncnn cannot read it")
    weights = model.with_suffix(".bin")
    net.load_model(str(weights) if weights.exists() else lib.DataReaderFromEmpty())
    line = next(line for line in model.read_text().splitlines() if line.startswith("Input"))
    sides = {int(key): int(side) for key, side in re.findall(r"\b([012])=(\d+)", line)}
    image = lib.Mat(sides[0], sides[1], sides[2])
    image.fill(0.5)
    put, get = net.input_names()[0], net.output_names()[-1]

    def run():
        extractor = net.create_extractor()
        extractor.input(put, image)
        code, _ = extractor.extract(get)
        if code != 0:
            raise RuntimeError(f"{model}: ncnn answers {code}")

    yield run


ENGINES = {
    "litert": lambda model, threads: litert(model, threads, True),
    "litert-builtin": lambda model, threads: litert(model, threads, False),
    "onnxruntime": onnxruntime,
    "ncnn": ncnn,
}


def peak_rss_bytes():
    """The most memory that the process has had resident; `None` where /proc does not tell."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def timed(run):
    start = time.perf_counter()
    run()
    return round((time.perf_counter() - start) * 1e3, 4)


def say(answer):
    print(json.dumps(answer), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("model", type=Path)
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    steps = ENGINES[arguments.engine](arguments.model, arguments.threads)
    next(steps)
    before = peak_rss_bytes()
    run = next(steps)
    start, runs = time.perf_counter(), 0
    while runs < WARM_UP_RUNS or time.perf_counter() - start < WARM_UP_SECONDS:
        run()
        runs += 1
    say({"model": str(arguments.model), "threads": arguments.threads, "rss_before_model_bytes": before})
    for line in sys.stdin:
        times = [timed(run) for _ in range(int(line))]
        say({"times_ms": times, "peak_rss_bytes": peak_rss_bytes()})


if __name__ == "__main__":
    main()
