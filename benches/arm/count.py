"""Instructions and modelled cycles of one inference on the processors of the Raspberry Pi, counted under emulation.

`benches/region.rs` runs under qemu-aarch64 as each processor; a plugin counts the instructions between its marks and how
often each block of them runs; llvm-mca models the cycles of the blocks. There are no caches and no mispredicted branches
in the model, and each call of a function costs 100 cycles: it ranks programs and is no prediction of milliseconds.

The plugin and the script that calls llvm-mca are not part of eyas. ARM_LAB names a folder that has them as
plugin/armprof72.so and mcacycles.py; --plugin and --mcacycles name them one by one.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

# The processor for qemu, what llvm-mca models it by, and whose it is. LLVM has no model of the A76; the Neoverse N1
# is the same design.
PROCESSORS = [
    ("cortex-a53", "cortex-a53", "Pi 3"),
    ("cortex-a72", "cortex-a72", "Pi 4"),
    ("cortex-a76", "neoverse-n1", "Pi 5"),
]
PEERS = {
    "litert-xnn": "LiteRT (XNNPACK)",
    "litert-noxnn": "LiteRT (built-in kernels)",
    "tflite": "tflite-runtime",
    "tflite-xnn": "tflite-runtime",
    "ort": "ONNX Runtime",
    "onnxruntime-cpu": "ONNX Runtime",
}
TARGET = "aarch64-unknown-linux-gnu"
BLOCKS = 600
FUNCTIONS = 8


@dataclass
class Count:
    """Of one program on one processor, in millions. `None`: not known."""

    instructions: float = None
    cycles: float = None
    blocks: str = ""
    functions: str = ""


@dataclass
class Model:
    """What is known of a model: counts by program and processor."""

    path: Path
    counts: dict = field(default_factory=dict)

    def at(self, program, processor):
        return self.counts.setdefault((program, processor), Count())


def build():
    """Builds the region benchmark with the release profile and its symbols."""
    command = ["cargo", "build", "--release", "--no-default-features", "--target", TARGET, "--bench", "region"]
    environment = {**os.environ, "CARGO_PROFILE_RELEASE_STRIP": "false"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([*command, "--message-format=json"], cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("cargo build failed; cross/README.md tells what building for aarch64 needs")
    built = [message.get("executable") for message in map(json.loads, done.stdout.splitlines())]
    return Path(next(file for file in reversed(built) if file))


def profile(model, processor, file, arguments):
    """Runs one inference as the processor; the plugin writes the file."""
    plugin = f"{arguments.plugin},region=on,words=on,top={BLOCKS},out={file}"
    command = [arguments.qemu, "-cpu", processor, "-L", arguments.sysroot, "-plugin", plugin, arguments.region, model]
    command += ["--isa", arguments.isa] if arguments.isa else []
    done = subprocess.run(["nice", *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{model} as {processor}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(": ")[2]


def count(file, cpu, arguments):
    """The instructions in a profile, and what llvm-mca makes of them."""
    done = subprocess.run([sys.executable, arguments.mcacycles, file, cpu], capture_output=True, text=True)
    cycles = re.search(r"modelled ([\d.]+) M cycles", done.stdout)
    if done.returncode or not cycles:
        sys.exit(f"{arguments.mcacycles}: {done.stderr.strip() or done.stdout.strip()}")
    instructions = re.search(r"region insns (\d+)", done.stdout)
    total = int(instructions[1])
    return Count(total / 1e6, float(cycles[1]), readable(done.stdout), readable(functions(file, total)))


def functions(file, total):
    """The functions that run the most instructions, with their share of all, a line each."""
    found = re.findall(r"^ {2,}(\d+) +[\d.]+% (\S+)$", file.read_text(), re.MULTILINE)
    return "\n".join(f"{int(number) / total:6.1%} {name}" for number, name in found[:FUNCTIONS])


def readable(text):
    """The text with the names of Rust functions as they are written."""
    if shutil.which("c++filt"):
        text = subprocess.run(["c++filt"], input=text, capture_output=True, text=True).stdout
    return re.sub(r"::h[0-9a-f]{16}", "", text).rstrip()


def read_instructions(file, models):
    """Adds the peers' instructions: lines `peer-version|mode|model`, processor, count, with tabs between."""
    for line in file.read_text().splitlines()[1:]:
        columns = line.split("\t")
        peer, mode, name = columns[0].split("|")
        peer = re.sub(r"-(runtime-)?\d.*", "", peer)
        program = PEERS.get(f"{peer}-{mode}")
        for model in models:
            if program and model.path.stem == name and columns[2].isdigit():
                model.at(program, columns[1]).instructions = int(columns[2]) / 1e6


def read_cycles(file, models):
    """Adds the peers' cycles: lines `peer-mode-model processor: ... modelled N M cycles`."""
    for line in file.read_text().splitlines():
        found = re.match(r"(\S+) (\S+): .*modelled ([\d.]+) M cycles", line)
        for prefix, program in PEERS.items():
            if not found or not found[1].startswith(prefix + "-"):
                continue
            name = found[1].removeprefix(prefix + "-")
            for model in models:
                # ONNX Runtime's lines leave the end of the model's name out.
                if model.path.stem == name or (prefix == "ort" and model.path.stem.startswith(name)):
                    model.at(program, found[2]).cycles = float(found[3])


def table(model, processors):
    """Programs down, processors across, eyas first and what it takes of the best peer last."""
    head = [f"{board}: {unit}" for _, _, board in processors for unit in ("instructions", "cycles")]
    lines = [f"| program | {' | '.join(head)} |", "|---|" + "--:|" * len(head)]
    programs = list(dict.fromkeys(program for program, _ in model.counts))
    numbers = {program: row(model, program, processors) for program in programs}
    lines += [f"| {program} | {' | '.join('' if n is None else f'{n:.1f}' for n in numbers[program])} |" for program in programs]
    best = [min((n for n in column if n is not None), default=None) for column in zip(*(numbers[p] for p in programs[1:]))]
    shares = ["" if theirs is None else f"{ours / theirs:.2f}" for ours, theirs in zip(numbers["eyas"], best)]
    return "\n".join([*lines, f"| eyas, of the best peer | {' | '.join(shares)} |"] if best else lines)


def row(model, program, processors):
    counts = [model.counts.get((program, name), Count()) for name, _, _ in processors]
    return [number for one in counts for number in (one.instructions, one.cycles)]


def document(models, processors, arguments):
    """The tables, then what takes the most instructions and cycles."""
    versions = [first_line([arguments.qemu, "--version"]), first_line(["llvm-mca-19", "--version"]), compiler(arguments.region)]
    text = f"Millions for one inference, one thread, as {', '.join(f'{name} ({board})' for name, _, board in processors)}. "
    text += "; ".join(version for version in versions if version) + ".\n"
    for model in models:
        text += f"\n**{model.path.name}**\n\n{table(model, processors)}\n"
    text += "\nThe functions of eyas that run the most instructions, and its blocks that take the most cycles:\n"
    for model in models:
        for name, _, _ in processors:
            ours = model.at("eyas", name)
            text += f"\n{model.path.stem} as {name}:\n\n```text\n{ours.functions}\n{ours.blocks}\n```\n"
    return text


def compiler(binary):
    found = re.search(rb"rustc version ([ -~]+)", Path(binary).read_bytes())
    return f"rustc {found[1].decode()}" if found else ""


def first_line(command):
    try:
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in lines if "version" in line), "")


def parse():
    lab = os.environ.get("ARM_LAB")
    in_lab = lambda name: Path(lab, name) if lab else None  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model files, named as in the tables of the peers")
    parser.add_argument("--plugin", type=Path, default=in_lab("plugin/armprof72.so"), help="qemu plugin that counts")
    parser.add_argument("--mcacycles", type=Path, default=in_lab("mcacycles.py"), help="script that models the cycles of a profile")
    parser.add_argument("--peers", type=Path, metavar="TSV", help="instructions of the peers")
    parser.add_argument("--peer-cycles", type=Path, metavar="FILE", help="modelled cycles of the peers")
    parser.add_argument("--region", type=Path, help="the region benchmark; default: built now")
    parser.add_argument("--cpus", nargs="+", choices=[name for name, _, _ in PROCESSORS], help="default: all")
    parser.add_argument("--isa", help="the instruction set that eyas may use at most")
    parser.add_argument("--qemu", default="qemu-aarch64")
    parser.add_argument("--sysroot", default="/usr/aarch64-linux-gnu", help="where the emulated program finds its libraries")
    parser.add_argument("--profiles", type=Path, metavar="DIR", help="keep the profiles, for inner_loops.sh")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the Markdown goes; default: stdout")
    arguments = parser.parse_args()
    for flag in ("plugin", "mcacycles"):
        file = getattr(arguments, flag)
        if not file or not file.exists():
            parser.error(f"{file or 'no file'} for --{flag}: set ARM_LAB to a folder that has plugin/armprof72.so and mcacycles.py")
    for file in [*arguments.models, arguments.peers, arguments.peer_cycles, arguments.region]:
        if file and not file.exists():
            parser.error(f"{file} does not exist")
    for program in (arguments.qemu, "llvm-mca-19"):
        if not shutil.which(program):
            parser.error(f"{program} is not installed")
    return arguments


def main():
    arguments = parse()
    arguments.region = arguments.region or build()
    processors = [one for one in PROCESSORS if not arguments.cpus or one[0] in arguments.cpus]
    models = [Model(path) for path in arguments.models]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.profiles or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for model in models:
            for name, cpu, _ in processors:
                file = folder / f"{model.path.stem}-{name}.txt"
                summary = profile(model.path, name, file, arguments)
                model.counts["eyas", name] = count(file, cpu, arguments)
                print(f"{model.path.name} as {name}: {summary}", file=sys.stderr)
    if arguments.peers:
        read_instructions(arguments.peers, models)
    if arguments.peer_cycles:
        read_cycles(arguments.peer_cycles, models)
    text = document(models, processors, arguments)
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
