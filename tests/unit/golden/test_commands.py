"""The commands over a golden recording, as a person types them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import yaml
from typer.testing import CliRunner

from fleetwatch.cli.main import build_app
from tests.unit.golden.test_golden_recordings import FOLDER

if TYPE_CHECKING:
    from pathlib import Path


def call(*arguments: object) -> Any:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


def test_what_would_another_rule_have_said(tmp_path: Path):
    """Heat counts from 100 instead of 90: some alerts vanish, and CI hears of it."""
    rules = yaml.safe_load((FOLDER / "rules.yaml").read_text())
    changed = [rule | {"above": 100} if rule["name"] == "hot" else rule for rule in rules["rules"]]
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump({"rules": changed}))
    for name, file in (("before", FOLDER / "rules.yaml"), ("after", tmp_path / "changed.yaml")):
        given = ("replay", FOLDER / "storm", "--in-process", "--out", tmp_path / name, "--rules", file)
        done = call(*given, "--json", "--batch-size", 5000)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout.splitlines()[-1])["events"] > 10_000
    found = call("compare", tmp_path / "before", tmp_path / "after", "--json", "--fail-on-diff")
    assert found.exit_code == 1
    facts = json.loads(found.stdout)
    before, after = facts["by_rule"]["hot"]
    assert facts["differences"]["vanished"] + facts["differences"]["later"] > 0
    assert before >= after
    assert all(rule == "hot" or pair[0] == pair[1] for rule, pair in facts["by_rule"].items())
    # five devices were given faults, and heat was noticed on each of them
    assert facts["quality"][0]["faults"] == 5
    assert facts["quality"][0]["recall"] == 1.0


def test_a_damaged_recording_is_named_and_salvaged(tmp_path: Path):
    folder = tmp_path / "rec"
    shutil.copytree(FOLDER / "poison", folder)
    assert call("record", "verify", folder).exit_code == 0
    path = folder / "fleet.readings/00000.avro"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = call("record", "verify", folder, "--json")
    assert found.exit_code == 1
    assert "the block's checksum differs" in json.loads(found.stdout)["problems"][0]
    failed = call("replay", folder, "--in-process", "--out", tmp_path / "out")
    assert "the block's checksum differs" in str(failed.exception)
    saved = call("record", "salvage", folder, "--out", tmp_path / "saved", "--json")
    assert saved.exit_code == 1
    assert json.loads(saved.stdout)["events"]["fleet.readings"] > 5000
    assert call("record", "verify", tmp_path / "saved").exit_code == 0
    assert call("replay", tmp_path / "saved", "--in-process", "--out", tmp_path / "out2").exit_code == 0


def test_what_is_missing_on_the_command_line_is_said(tmp_path: Path):
    for arguments, said in (
        (["replay", FOLDER / "poison"], "say where to"),
        (["replay", FOLDER / "poison", "--in-process"], "give a folder for the results"),
        (["replay", FOLDER / "poison", "--to", "x.", "--speed", "fast"], "give a factor such as 1 or 60, or max"),
        (["replay", FOLDER / "poison", "--to", "x.", "--shift-time", "later"], "only 'now' is known"),
        (["replay", tmp_path, "--in-process", "--out", tmp_path / "x"], "is no recording"),
        (["record"], "give a folder: --out DIR"),
        (["record", "--out", tmp_path, "--topics", ","], "--topics names none"),
    ):
        assert said in str(call(*arguments).exception)
