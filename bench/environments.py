"""The contestants' environments in ``bench/.envs``: one virtual environment each, and the compiled C program."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from bench import figures

HERE = Path(__file__).resolve().parent
ENVS = HERE / ".envs"
PEERS = ("faust", "quix", "bytewax", "pathway", "hand_river", "hand_tuned")


def env_bin(name: str, program: str = "python") -> str:
    return str(ENVS / name / "bin" / program)


def needs_environment(name: str) -> bool:
    """Say whether a contestant runs in something that ``setup`` makes."""
    return name in PEERS or name == figures.FLOOR


def is_set_up(name: str) -> bool:
    marker = ENVS / name / ".done"
    return marker.is_file() and marker.read_text(encoding="utf-8") == _fingerprint(name)


def setup(names: tuple[str, ...] = (*PEERS, figures.FLOOR)) -> list[str]:
    """Make the environments that are missing or of other versions; return the names that failed."""
    failed = []
    for name in names:
        if is_set_up(name):
            continue
        print(f"setting up {name}", file=sys.stderr, flush=True)
        if _compile(name) if name == figures.FLOOR else _install(name):
            (ENVS / name / ".done").write_text(_fingerprint(name), encoding="utf-8")
        else:
            failed.append(name)
    return failed


def _source(name: str) -> Path:
    return HERE / "contestants" / (f"{name}.c" if name == figures.FLOOR else f"{name}.txt")


def _fingerprint(name: str) -> str:
    what = _source(name).read_text(encoding="utf-8") + sys.version
    if name == figures.FLOOR:
        what += str(_librdkafka())
    return hashlib.sha256(what.encode()).hexdigest()


def _install(name: str) -> bool:
    return _runs(sys.executable, "-m", "venv", "--clear", str(ENVS / name)) and _runs(
        env_bin(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(_source(name))
    )


def _librdkafka() -> Path | None:
    """Return the library inside our confluent-kafka wheel: the same version for all, and no package to install."""
    found = importlib.util.find_spec("confluent_kafka")
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parents[1].glob("confluent_kafka.libs/librdkafka-*.so*"), None)


def _compile(name: str) -> bool:
    compiler, library = shutil.which("gcc") or shutil.which("cc"), _librdkafka()
    if compiler is None or library is None:
        print(f"{name} needs a C compiler and a confluent-kafka wheel with its own librdkafka", file=sys.stderr)
        return False
    folder = ENVS / name / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-Wall", "-Wextra", f"-Wl,-rpath,{library.parent}"]
    return _runs(compiler, *flags, "-o", str(folder / name), str(_source(name)), str(library))


def _runs(*command: str) -> bool:
    return subprocess.run(command, check=False).returncode == 0
