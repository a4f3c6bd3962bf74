"""eyas, LiteRT, ONNX Runtime and ncnn side by side on the same models.

Every program is a process that lives as long as the measurement and computes only when asked. They take turns: in each
round every program runs for a short time, in an order that changes from round to round, so that whatever else happens
on the machine happens to all of them alike. The first run of a turn is not counted.

Needs the packages of requirements.txt. Writes a Markdown table and, with --json, all times.
"""

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MAX_RUNS_A_TURN = 500
PAUSE_SECONDS = 0.03  # threads of the program before may still spin, waiting for more work
REFERENCE = "LiteRT (XNNPACK)"


class NotMeasured(Exception):
    """Why a program has no times."""


@dataclass
class Program:
    """One program with one model and one number of threads."""

    name: str
    threads: int
    command: list
    note: str = ""
    process: subprocess.Popen = None
    errors: object = None
    isa: str = ""
    rss_before_model: int = None
    peak_rss: int = None
    runs_a_turn: int = 0
    rounds: list = field(default_factory=list)
    failure: str = ""

    def start(self, turn_seconds):
        """Starts it, waits until it has warmed up, and finds how many runs fill a turn."""
        if not self.command:
            raise NotMeasured(self.note)
        self.errors = tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        except OSError as error:
            raise NotMeasured(str(error)) from error
        ready = self.read()
        self.isa = ready.get("isa", "")
        self.rss_before_model = ready.get("rss_before_model_bytes")
        fastest = min(self.ask(3))
        self.runs_a_turn = max(2, min(MAX_RUNS_A_TURN, round(turn_seconds * 1e3 / max(fastest, 1e-3))))

    def read(self):
        """The next answer."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines() or [f"it ended with {self.process.returncode}"]
        raise NotMeasured(lines[-1])

    def ask(self, runs):
        """Times of so many runs in ms."""
        try:
            print(runs, file=self.process.stdin, flush=True)
        except OSError:
            pass  # it has ended: reading tells why
        answer = self.read()
        self.peak_rss = answer.get("peak_rss_bytes")
        return answer["times_ms"]

    def take_turn(self):
        self.rounds.append(self.ask(self.runs_a_turn + 1)[1:])

    def stop(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait(timeout=30)

    def times(self):
        return sorted(time for turn in self.rounds for time in turn)


def quantile(times, share):
    """The time that this share of all sorted times do not exceed (nearest rank)."""
    return times[max(1, math.ceil(share * len(times))) - 1]


def programs(model, threads, arguments):
    """The programs to measure on a model."""
    onnx, ncnn = arguments.onnx.get(model.name), arguments.ncnn.get(model.name)
    is_onnx = model.suffix == ".onnx"
    eyas = [arguments.eyas, "bench", "--on-request", "-m", model, "--threads", threads]

    def peer(engine, file, reason):
        script = Path(__file__).with_name("peer.py")
        return [sys.executable, script, engine, file, threads] if file else [], reason

    no_tflite, no_onnx = "it reads .tflite files only", "no --onnx twin was given"
    no_ncnn = "it reads no .tflite or .onnx file, and no --ncnn twin was given"
    tflite = None if is_onnx else model
    rows = [
        ("eyas", [*eyas, *(["--isa", arguments.isa] if arguments.isa else [])], ""),
        (REFERENCE, *peer("litert", tflite, no_tflite)),
        ("LiteRT (built-in kernels)", *peer("litert-builtin", tflite, no_tflite)),
        ("ONNX Runtime", *peer("onnxruntime", model if is_onnx else onnx, no_onnx)),
        (f"ncnn ({ncnn.name})" if ncnn else "ncnn", *peer("ncnn", ncnn, no_ncnn)),
    ]
    chosen = [row for row in rows if not arguments.only or any(row[0].startswith(name) for name in arguments.only)]
    return [Program(name, threads, [str(word) for word in command], reason) for name, command, reason in chosen]


def measure(model, arguments):
    """All programs with a model, in turns."""
    everyone = [one for threads in arguments.threads for one in programs(model, threads, arguments)]
    random_order = random.Random(1)
    try:
        for one in everyone:
            attempt(one, lambda one: one.start(arguments.turn))
        for number in range(arguments.rounds):
            print(f"\r{model.name}: round {number + 1} of {arguments.rounds}", end="", file=sys.stderr, flush=True)
            running = [one for one in everyone if not one.failure]
            for one in random_order.sample(running, len(running)):
                time.sleep(PAUSE_SECONDS)
                attempt(one, Program.take_turn)
    finally:
        for one in everyone:
            one.stop()
    print(file=sys.stderr)
    return everyone


def attempt(program, action):
    try:
        action(program)
    except NotMeasured as reason:
        program.failure = str(reason)


def table(everyone):
    """The measured programs as Markdown rows, and a line for each that was not measured."""
    lines = [
        f"| program | threads | median ms | p90 ms | minimum ms | of {REFERENCE} | gain by threads | peak MB | before the model MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    measured = [one for one in everyone if one.rounds and not one.failure]
    medians = {(one.name, one.threads): quantile(one.times(), 0.5) for one in measured}
    for one in measured:
        times, median = one.times(), medians[one.name, one.threads]
        reference, alone = medians.get((REFERENCE, one.threads)), medians.get((one.name, 1))
        cells = [
            f"{one.name} {one.isa}".strip(),
            str(one.threads),
            f"{median:.3f}",
            f"{quantile(times, 0.9):.3f}",
            f"{times[0]:.3f}",
            f"{median / reference:.2f}" if reference else "",
            f"{alone / median:.2f}" if alone and one.threads > 1 else "",
            megabytes(one.peak_rss),
            megabytes(one.rss_before_model),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    failures = dict.fromkeys(f"- {one.name} is not measured: {one.failure.rstrip('.')}." for one in everyone if one.failure)
    return "\n".join([*lines, *([""] if failures else []), *failures])


def megabytes(count):
    return f"{count / 1e6:.1f}" if count else ""


def machine(arguments):
    """What was measured on, with what: names and values."""
    versions = {"eyas": first_line([arguments.eyas, "--version"]).removeprefix("eyas "), "compiler": compiler(arguments.eyas)}
    for package in ("ai-edge-litert", "onnxruntime", "ncnn"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def cpu():
    """The processor's name, and the board's where there is one."""
    info = Path("/proc/cpuinfo").read_text()
    found = {key: re.search(rf"^{key}\s*: (.+)$", info, re.MULTILINE) for key in ("model name", "cpu family", "model", "Model")}
    words = {key: match[1] for key, match in found.items() if match}
    if "cpu family" in words:
        return "{model name} (family {cpu family}, model {model})".format_map(words)
    return ", ".join(words.values()) or platform.processor() or "unknown"


def compiler(binary):
    """The compiler's mark in a binary."""
    found = re.search(rb"rustc version ([ -~]+)", Path(binary).read_bytes())
    return f"rustc {found[1].decode()}" if found else "unknown"


def first_line(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        sys.exit(f"{command[0]}: {error}")


def document(facts, loads, sections, arguments):
    """All tables as Markdown."""
    words = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in ("date", "cpu", "cores", "system"))
    head = (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}; {facts['date']}; {words}. "
        f"{arguments.rounds} rounds, turns of {arguments.turn} s; load average {loads[0]:.1f} before and {loads[1]:.1f} after."
    )
    return "\n\n".join([head, *(f"**{name}**\n\n{rows}" for name, rows in sections)]) + "\n"


def record(everyone):
    """What --json keeps of the programs of a model."""
    keys = ("name", "threads", "isa", "failure", "peak_rss", "rss_before_model", "rounds")
    return [{key: getattr(one, key) for key in keys} for one in everyone]


def twin(text):
    model, found, file = text.partition("=")
    if not found or not Path(file).exists():
        raise argparse.ArgumentTypeError(f"{text}: not MODEL=FILE with a file that exists")
    return Path(model).name, Path(file)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help=".tflite or .onnx files")
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--isa", help="the instruction set that eyas may use at most")
    parser.add_argument("--onnx", type=twin, action="append", default=[], metavar="MODEL=FILE", help="the ONNX twin of a model")
    parser.add_argument("--ncnn", type=twin, action="append", default=[], metavar="MODEL=FILE", help="the .param that stands for a model in ncnn")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="programs whose name begins so")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=20, metavar="N")
    parser.add_argument("--turn", type=float, default=0.2, metavar="S", help="seconds that a program runs in a round")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the Markdown goes; default: stdout")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all times go")
    arguments = parser.parse_args()
    arguments.onnx, arguments.ncnn = dict(arguments.onnx), dict(arguments.ncnn)
    arguments.eyas = arguments.eyas.resolve()
    for model in arguments.models:
        if not model.exists():
            parser.error(f"{model} does not exist")
    return arguments


def main():
    arguments = parse()
    facts, before = machine(arguments), os.getloadavg()[0]
    results = [(model.name, measure(model, arguments)) for model in arguments.models]
    loads = before, os.getloadavg()[0]
    text = document(facts, loads, [(name, table(everyone)) for name, everyone in results], arguments)
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")
    if arguments.json:
        models = {name: record(everyone) for name, everyone in results}
        arguments.json.write_text(json.dumps({"machine": facts, "load": loads, "models": models}) + "\n")


if __name__ == "__main__":
    main()
