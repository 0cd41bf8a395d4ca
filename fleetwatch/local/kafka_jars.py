"""What a real Apache Kafka needs: Java, and the jars that Maven resolves once into the user's cache folder.

``python -m fleetwatch.local.kafka_jars`` fetches the jars ahead (``make test`` does).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from fleetwatch.errors import EnvironmentProblemError

POM: Final = Path(__file__).with_name("kafka-pom.xml")
MIN_JAVA: Final = 17
DOWNLOAD_SECONDS: Final = 600
_COMPLETE: Final = "complete"
"""File beside the jars with the digest of the pom that they were resolved from."""


def cache_dir() -> Path:
    """Return the folder for what is slow to get and can be got again: ``$XDG_CACHE_HOME/fleetwatch``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "fleetwatch"


def kafka_version() -> str:
    """Return the version of Apache Kafka that the pom names."""
    match = re.search(r"<kafka\.version>([\d.]+)</kafka\.version>", POM.read_text())
    assert match is not None, "the pom names its version"
    return match[1]


def java_command() -> str:
    """Return the path of a Java that can run the broker: ``$JAVA_HOME``'s, else the first on the PATH.

    Raises:
        EnvironmentProblemError: there is none, or it is too old.

    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else None
    java = java or shutil.which("java")
    remedy = "install openjdk-17-jre-headless or newer, or set JAVA_HOME, or use the embedded broker"
    if java is None:
        raise EnvironmentProblemError(f"Apache Kafka needs Java {MIN_JAVA} and none is found: {remedy}")
    shown = subprocess.run(  # noqa: S603  # asks a program for its version
        [java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    ).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', shown)
    if match is None or int(match[1]) < MIN_JAVA:
        found = f"version {match[1]}" if match else "of an unknown version"
        raise EnvironmentProblemError(f"Apache Kafka needs Java {MIN_JAVA}, {java} is {found}: {remedy}")
    return java


def jar_dir() -> Path:
    """Return the folder with the broker's jars; the first call has Maven fetch them (some 45 MB).

    Two processes may call this at once: one fetches, the other waits.

    Raises:
        EnvironmentProblemError: Maven is missing or cannot resolve them, or the cache is not writable.

    """
    jars = cache_dir() / f"kafka-{kafka_version()}"
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()
    if _is_complete(jars, digest):
        return jars
    try:
        jars.parent.mkdir(parents=True, exist_ok=True)
        with jars.with_name(f"{jars.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_complete(jars, digest):
                _fetch(jars, digest)
    except OSError as error:
        raise EnvironmentProblemError(
            f"cannot keep Kafka's jars in {jars.parent} ({error.strerror}): make room or set XDG_CACHE_HOME"
        ) from None
    return jars


def _is_complete(jars: Path, digest: str) -> bool:
    try:
        return (jars / _COMPLETE).read_text() == digest
    except OSError:
        return False


def _fetch(jars: Path, digest: str) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise EnvironmentProblemError(
            "Kafka's jars come by Maven and `mvn` is not found: install maven, or use the embedded broker"
        )
    partial = jars.with_name(f"{jars.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        maven, "--batch-mode", "--quiet", "-Dstyle.color=never", "--file", str(POM),
        "dependency:copy-dependencies", f"-DoutputDirectory={partial}", "-DincludeScope=runtime",
    ]  # fmt: skip
    try:
        result = subprocess.run(  # noqa: S603  # fixed arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentProblemError(
            f"Maven has not fetched Kafka's jars in {DOWNLOAD_SECONDS} s: check the network and try again"
        ) from None
    if result.returncode != 0:
        telling = [line for line in result.stdout.splitlines() if "[ERROR]" in line] or ["no message"]
        raise EnvironmentProblemError(
            f"Maven cannot fetch Kafka's jars, check the network or Maven's settings: {telling[0][:300]}"
        )
    (partial / _COMPLETE).write_text(digest)
    shutil.rmtree(jars, ignore_errors=True)
    partial.rename(jars)


if __name__ == "__main__":
    try:
        print(f"Apache Kafka {kafka_version()} is in {jar_dir()}, run by {java_command()}")  # noqa: T201  # its output
    except EnvironmentProblemError as problem:
        print(f"fleetwatch: {problem}", file=sys.stderr)  # noqa: T201  # its output
        sys.exit(2)
