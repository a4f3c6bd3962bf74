"""Watches a running eyas for an hour while clients come and go: memory stays flat, the watchdog is fed in time, no thread
and no descriptor is left behind, and the end is clean. Exit code 1 if anything of it fails.

    python soak.py --eyas PATH [--minutes 60] [--clients 20] [--fps 10]

Standard library only. The watchdog is a socket of this program, told of as systemd tells of its own (sd_notify(3)).
"""

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "tests" / "demo"
PATHS = ("/", "/stream.mjpg", "/stream.mjpg", "/events", "/snapshot.jpg", "/api/status", "/metrics", "/healthz")
WATCHDOG_SECONDS = 10
WARM_UP_SECONDS = 60
MOST_GROWTH_KIB = 2048


class Watchdog(threading.Thread):
    """What systemd would hear: how often, and the longest silence."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.address = str(Path(folder) / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.fed, self.longest, self.last = 0, 0.0, None

    def run(self):
        while True:
            lines = self.socket.recv(65536).decode().splitlines()
            now = time.monotonic()
            if "READY=1" in lines:
                self.last = now
            if "WATCHDOG=1" in lines:
                self.fed += 1
                self.longest = max(self.longest, now - (self.last or now))
                self.last = now


class Client(threading.Thread):
    """Connects, asks, reads for a while (fast, slowly or not at all), and goes without a word; again and again."""

    def __init__(self, address, seed, ends, outcomes):
        super().__init__(daemon=True)
        parts = urllib.parse.urlsplit(address)
        self.host, self.random, self.ends, self.outcomes = (parts.hostname, parts.port), random.Random(seed), ends, outcomes

    def run(self):
        while not self.ends.is_set():
            path = self.random.choice(PATHS)
            try:
                self.outcomes[self.visit(path)] += 1
            except OSError as error:
                self.outcomes[f"{path}: {type(error).__name__}"] += 1
            self.ends.wait(self.random.uniform(0, 3))

    def visit(self, path):
        with socket.create_connection(self.host, timeout=10) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: {self.host[0]}:{self.host[1]}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            pause = self.random.choice((0, 0, 0.5, None))
            until = time.monotonic() + self.random.uniform(0.1, 15)
            if pause is None:
                self.ends.wait(until - time.monotonic())
                return f"{path}: not read"
            answer = b""
            while time.monotonic() < until and not self.ends.is_set():
                data = connection.recv(65536)
                answer = answer or data
                if not data:
                    break
                self.ends.wait(pause)
        return f"{path}: {answer.split(b' ', 2)[1].decode() if answer else 'nothing'}"


def reading(process):
    """Resident memory (KiB), threads and open descriptors of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    value = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE).group(1))
    return value("VmRSS"), value("Threads"), len(os.listdir(f"/proc/{process}/fd"))


def start(eyas, fps, watchdog):
    """The daemon on a free port, and its address as it logs it; the rest of its log goes on to our stderr."""
    command = [Path(eyas).resolve(), "run", "-m", DEMO / "colours.tflite", "-l", DEMO / "colours.txt",
               "--source", DEMO / "scene", "--loop", "--fps", str(fps), "--listen", "127.0.0.1:0"]
    environment = os.environ | {"NOTIFY_SOCKET": watchdog.address, "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1_000_000)}
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, env=environment)
    for line in daemon.stderr:
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            threading.Thread(target=lambda: [sys.stderr.write(line) for line in daemon.stderr], daemon=True).start()
            return daemon, found.group()
    sys.exit("eyas ended before it served the live page")


def watch(daemon, seconds, began):
    """A line every ten seconds; returns the readings after the warm-up."""
    readings = []
    while (spent := time.monotonic() - began) < seconds:
        if daemon.poll() is not None:
            sys.exit(f"eyas ended with {daemon.returncode} after {spent:.0f} s")
        now = reading(daemon.pid)
        if spent >= WARM_UP_SECONDS:
            readings.append(now)
        print(f"{spent:6.0f} s  {now[0]:7} KiB  {now[1]:3} threads  {now[2]:3} descriptors", flush=True)
        time.sleep(10)
    return readings


def settled(daemon, quiet, seconds=30):
    """The reading once threads and descriptors are what they were before the clients, or the last one in time."""
    until = time.monotonic() + seconds
    while (now := reading(daemon.pid))[1:] != quiet[1:] and time.monotonic() < until:
        time.sleep(0.5)
    return now


def soak(arguments):
    ends, outcomes = threading.Event(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        watchdog = Watchdog(folder)
        watchdog.start()
        daemon, address = start(arguments.eyas, arguments.fps, watchdog)
        try:
            time.sleep(5)
            quiet = reading(daemon.pid)
            clients = [Client(address, seed, ends, outcomes) for seed in range(arguments.clients)]
            for client in clients:
                client.start()
            readings = watch(daemon, arguments.minutes * 60, time.monotonic())
            ends.set()
            for client in clients:
                client.join(20)
            last = settled(daemon, quiet)
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait(20)
        finally:
            daemon.kill()
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7}  {outcome}")
    growth = max(memory for memory, _, _ in readings) - readings[0][0]
    print(f"memory after {WARM_UP_SECONDS} s {readings[0][0]} KiB, growth from there {growth} KiB, at the end {last[0]} KiB")
    print(f"watchdog fed {watchdog.fed} times, longest silence {watchdog.longest:.1f} s of {WATCHDOG_SECONDS}")
    print(f"threads and descriptors before {quiet[1:]}, after {last[1:]}; exit code {code}")
    return {
        "memory is flat": growth < MOST_GROWTH_KIB,
        "the watchdog is fed in time": watchdog.fed > 0 and watchdog.longest < WATCHDOG_SECONDS,
        "no thread or descriptor is left behind": last[1:] == quiet[1:],
        "the end is clean": code == 0,
        "clients were served": outcomes["/stream.mjpg: 200"] > 0 and outcomes["/metrics: 200"] > 0,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyas", required=True, help="the binary")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--fps", type=float, default=10)
    results = soak(parser.parse_args())
    for name, fulfilled in results.items():
        print(f"{'ok' if fulfilled else 'FAILED'}: {name}")
    sys.exit(0 if all(results.values()) else 1)
