"""Drives the live page of a running eyas in headless Chromium: the picture moves, the slider changes the threshold for
everybody, the list follows. Exit code 1 if anything of it fails.

Needs Chromium and ChromeDriver (Debian: `chromium`, `chromium-driver`) and `pip install -r requirements.txt`.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.keys import Keys

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path("tests") / "demo"
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1200,800",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]


def start(eyas, source):
    """The daemon on a free port, and its address as it logs it."""
    command = [Path(eyas).resolve(), "run", "-m", DEMO / "colours.tflite", "-l", DEMO / "colours.txt", "--source", source,
               "--loop", "--fps", "12", "--listen", "127.0.0.1:0"]
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    for line in daemon.stderr:
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return daemon, found.group()
    sys.exit("eyas ended before it served the live page")


def browser():
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    # Named, so that Selenium does not look for a driver elsewhere.
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def status(address):
    with urllib.request.urlopen(address + "/api/status", timeout=5) as answer:
        return json.load(answer)


def wait(what, condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    print(f"ok: {what}")
    return value


def inferred(address):
    return status(address)["inferred"]


def check(address, page, screenshot):
    page.get(address)
    picture = page.find_element("css selector", "img")
    wait("the stream shows a picture", lambda: picture.get_property("naturalWidth") == 320)
    text = lambda: page.find_element("id", "detections").text
    tracks = lambda: page.find_element("id", "tracks").text
    wait("all three discs are listed", lambda: all(name in text() for name in ("red", "green", "blue")))
    before = inferred(address)
    wait("detection goes on while the page is open", lambda: inferred(address) > before + 20)
    if screenshot:
        time.sleep(1)
        page.save_screenshot(screenshot)
    slider = page.find_element("css selector", "input[type=range]")
    slider.send_keys(Keys.END)
    wait("the slider sets the threshold to 1", lambda: status(address)["confidence"] > 0.999)
    wait("nothing is left in the list", lambda: "green" not in text())
    slider.send_keys(Keys.HOME)
    wait("the slider sets the threshold to 0", lambda: status(address)["confidence"] < 0.001)
    wait("the discs are back", lambda: "green" in text())
    wait("they are followed", lambda: re.search(r"green\s+[1-9]\d* now", tracks()))
    severe = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe
    print("ok: the browser's console is clean")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, help="the eyas binary")
    parser.add_argument("--screenshot", help="where to write a picture of the page")
    arguments = parser.parse_args()
    daemon, address = start(arguments.eyas, DEMO / "scene")
    page = browser()
    try:
        check(address, page, arguments.screenshot)
    finally:
        page.quit()
        daemon.terminate()
        code = daemon.wait(timeout=10)
    assert code == 0, f"eyas ended with {code}"
    print("ok: eyas ended cleanly")


if __name__ == "__main__":
    main()
