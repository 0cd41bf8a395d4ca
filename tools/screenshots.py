"""Makes docs/screenshots: starts the demo in a folder of its own, waits until every page has something, takes pictures.

    make screenshots                         all of them, some three minutes
    python tools/screenshots.py --url URL    of a dashboard that runs already (nothing is started, sent or trained)

It needs Chromium. Pictures are brought down to a palette, so that they stay small.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer
from PIL import Image
from playwright.sync_api import sync_playwright

from fleetwatch import avro, topics
from fleetwatch.local import children
from fleetwatch.local.ports import free_port
from fleetwatch.records import SensorReading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "docs/screenshots"
LARGEST_BYTES: Final = 150_000
COLOURS: Final = 256
WIDTH, HEIGHT = 1360, 850
PHONE: Final = (400, 860)
ARGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb")
PAGES: Final = {
    "fleet": "[data-device]", "device": "[data-testid='stVegaLiteChart']", "cameras": "[data-testid='stVegaLiteChart']",
    "alerts": "[data-past]", "models": "[data-model]", "pipeline": "[data-rate]",
}  # fmt: skip
"""Page -> what is on it when it is worth a picture."""
DEVICE: Final = "temp-north-01"
SETTLED_MS: Final = 4_500
"""Charts have drawn and two refreshes have passed."""


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description="Take pictures of every page of the dashboard.")
    parser.add_argument("--url", help="address of a dashboard that runs already")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long the demo runs before the pictures")
    options = parser.parse_args()
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        print("no browser found: apt-get install chromium")
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(ARGS))
        if options.url:
            take_all(browser, options.url, prepared=False)
        else:
            with demo(options.minutes * 60) as url:
                acknowledge(browser, url)
                take_all(browser, url, prepared=True)
        browser.close()
    return 0


@contextmanager
def demo(seconds: float) -> Iterator[str]:
    """Run the whole stack for a while, make some of what does not happen by itself, and yield the address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="fleetwatch-shots-") as folder, (Path(folder) / "up.log").open("wb") as log:
        up = children.start(
            [sys.executable, "-m", "fleetwatch.cli.main", "up", "--json", "--state-dir", f"{folder}/state",
             "--dashboard-port", str(port)],
            log=log.fileno(),
            env=dict(os.environ),
        )  # fmt: skip
        try:
            began = time.monotonic()
            wait(lambda: is_there(port), "the dashboard", 120)
            environment = environment_of(up.pid)
            time.sleep(max(0.0, 0.6 * seconds - (time.monotonic() - began)))
            spoil(environment)
            train(environment)
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))
            yield url
        finally:
            children.stop(up, by=signal.SIGINT, timeout=60)


def environment_of(pid: int) -> dict[str, str]:
    """Return the settings that the demo gave to its database sink: the addresses of broker and database."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"sink\0timescale" in (place / "cmdline").read_bytes():
                raw = (place / "environ").read_bytes()
                return dict(line.split("=", 1) for line in raw.decode().split("\0") if "=" in line)
        except OSError:
            continue  # it has just ended
    raise SystemExit("the demo has no database sink")


def spoil(environment: dict[str, str]) -> None:
    """Send events that will be refused."""
    good = avro.encode(
        SensorReading(
            device_id="boiler-7", sensor_type="temperature", site="cellar", event_time=datetime.now(UTC), seq=1,
            value=float("nan"), unit="Cel",
        )
    )  # fmt: skip
    producer = Producer({"bootstrap.servers": environment["FLEETWATCH_BOOTSTRAP_SERVERS"], "linger.ms": 5})
    for key, value in (("boiler-7", good), ("boiler-7", good[:-4]), ("boiler-8", good), ("old-plc", b"21.5;22.0")):
        producer.produce(topics.READINGS, value, key)
    if producer.flush(10):
        raise SystemExit("the broker takes nothing")


def train(environment: dict[str, str]) -> None:
    """Train a model beside the one in force."""
    command = ["train", "--from-database", "--sensor-type", "temperature", "--version-note", "first three minutes"]
    whole = [sys.executable, "-m", "fleetwatch.cli.main", *command]
    subprocess.run(whole, env=environment, cwd=ROOT, check=True)  # noqa: S603  # a command of ours


def acknowledge(browser: Any, url: str) -> None:
    """Acknowledge an alert, as a person would."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(f"{url}/alerts")
    page.get_by_placeholder("Your name, written to acknowledgements").fill("Dana")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Acknowledge").first.click(timeout=60_000)
    page.locator("[data-acknowledged='yes']").first.wait_for(timeout=20_000)
    page.close()


def take_all(browser: Any, url: str, *, prepared: bool) -> None:
    """Take every page in both languages, and the Fleet page on a phone; alerts are acknowledged in a demo of ours."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        for language in ("en", "he"):
            if name == "alerts" and prepared:
                acknowledge(browser, url)
            take(browser, url, name, language, FOLDER / f"{name}.{language}.png", WIDTH, HEIGHT)
    for language in ("en", "he"):
        take(browser, url, "fleet", language, FOLDER / f"phone.{language}.png", *PHONE)


def take(  # noqa: PLR0913, PLR0917  # what, where to, how large
    browser: Any, url: str, name: str, language: str, path: Path, width: int, height: int
) -> None:
    """Take one picture."""
    page = browser.new_page(viewport={"width": width, "height": height})
    query = f"?lang={language}" + (f"&device={DEVICE}" if name == "device" else "")
    page.goto(f"{url}/{'' if name == 'fleet' else name}{query}")
    page.locator(PAGES[name]).first.wait_for(timeout=90_000)
    page.wait_for_timeout(SETTLED_MS)
    tall = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    if width == WIDTH and name != "fleet":  # what is below the fold belongs to the picture
        page.set_viewport_size({"width": width, "height": min(max(height, tall + 8), 1_500)})
        page.wait_for_timeout(SETTLED_MS)
    picture = Image.open(io.BytesIO(page.screenshot(timeout=120_000, animations="disabled"))).convert("RGB")
    page.close()
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}  {picture.width} x {picture.height}  {size / 1000:.0f} KB")
    if size > LARGEST_BYTES:
        raise SystemExit(f"{path} is larger than {LARGEST_BYTES / 1000:.0f} KB")


def is_there(port: int) -> bool:
    """Tell whether the page is served."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until it is so, or end with a line that says what was missing."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
