"""Prometheus scrapes every process of a running stack; its alert rules and Grafana's dashboards fit what is served."""

from __future__ import annotations

import json
import re
import runpy
import signal
import subprocess
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fleetwatch.local import children
from fleetwatch.local.ports import free_port
from sinks.migrate import migrate
from tests import processes
from tests.services import find_program, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetwatch.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
PAGE = runpy.run_path(str(ROOT / "tools/metrics_page.py"))
STACK = {
    "worker": ["worker"],
    "simulate": ["simulate", "--devices", "8", "--cameras", "1", "--rate", "5"],
    "gateway": ["gateway", "--port", "0"],
    "sink-timescale": ["sink", "timescale", "--no-migrate"],
    "sink-redis": ["sink", "redis"],
    "alert": ["alert"],
    "dashboard": ["dashboard"],
}


def promtool(*arguments: str) -> str:
    tool = find_program("promtool", package="prometheus")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- the running stack


class Prometheus:
    """A real Prometheus on the shipped configuration, but for where the processes are and how often they are asked."""

    def __init__(self, stack: dict[str, processes.Process], folder: Path) -> None:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
        (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "fleetwatch")
        assert stack.keys() <= set(job.pop("dns_sd_configs")[0]["names"]), "a service that is not scraped"
        del job["relabel_configs"]
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{process.port}"], "labels": {"part": name}} for name, process in stack.items()
        ]
        config["scrape_configs"] = [job]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._folder = folder
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        command = [
            find_program("prometheus", package="prometheus"),
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/tsdb",
            f"--web.listen-address={address}",
        ]
        log = self._folder / "prometheus.log"
        with log.open("wb") as lines:
            process = children.start(command, log=lines.fileno(), cwd=self._folder)
        try:
            yield self
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{log.read_text()[-2000:]}") from None
        finally:
            children.stop(process, by=signal.SIGTERM, timeout=10)

    def get(self, path: str, **query: str) -> Any:
        """Return the answer's data; nothing when it does not answer."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=5
            ) as answer:
                return json.load(answer)["data"]
        except OSError:
            return {}

    def values(self, expression: str) -> dict[str, float]:
        """Return the values of an expression by part."""
        found = self.get("query", query=expression).get("result", [])
        return {one["metric"].get("part", ""): float(one["value"][1]) for one in found}


@pytest.mark.integration
def test_prometheus_scrapes_every_process_of_a_running_stack(
    settings: Settings, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    find_program("prometheus", package="prometheus")
    migrate(postgres_url)
    environment = processes.environment(
        settings, DATABASE_URL=postgres_url, REDIS_URL=redis_url, DASHBOARD_PORT=str(free_port())
    )
    with (
        processes.running(STACK, dict.fromkeys(STACK, environment), tmp_path) as stack,
        Prometheus(stack, tmp_path).running() as watch,
    ):
        for process in stack.values():
            process.wait_until_ready()
        wait_until(
            lambda: watch.values("fleetwatch_ready == 1").keys() == STACK.keys(), what="every process scraped, ready"
        )
        for expression in (
            'sum by (part) (rate(fleetwatch_events{service="worker", kind="scored"}[10s])) > 0',
            'sum by (part) (rate(fleetwatch_sink_rows_written_total{topic="fleet.scored"}[10s])) > 0',
            "sum by (part) (fleetwatch_worker_checkpoint_seconds_count) > 0",
            "count by (part) (fleetwatch_worker_lag) > 0",
        ):
            wait_until(lambda expression=expression: watch.values(expression), what=expression)
        served = {name: process.get("/metrics")[1] for name, process in stack.items()}

        rules = [rule for group in watch.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in rules} == {"ok"}
        assert "FleetwatchPartMissing" not in {rule["name"] for rule in rules if rule["state"] == "firing"}

        children.stop(stack["alert"].popen, by=signal.SIGTERM, timeout=10)
        wait_until(lambda: watch.values('up{job="fleetwatch"} == 0').keys() == {"alert"}, what="a process missed")
    for name, text in served.items():
        check_served(name, text)


def check_served(process: str, text: str) -> None:
    """What a process serves is exactly what the page says of it."""
    families = list(text_string_to_metric_families(text))
    ours = {family.name for family in families if not family.name.startswith("process_")}
    said = {
        metric.name.removesuffix("_total")
        for metric in PAGE["metrics"]()
        if process in metric.served_by.split(", ") or metric.served_by == "every process"
    }
    assert ours == said, process
    assert len(families) > len(ours), "process_* is missing"
    kinds = {
        sample.labels["kind"] for family in families for sample in family.samples if family.name == "fleetwatch_events"
    }
    known = {kind for who, some in PAGE["KINDS"].items() if process in who.split(", ") for kind in some}
    assert kinds <= known, f"KINDS of tools/metrics_page.py does not say what {process} counts"
    assert kinds or process == "alert"


# --- what lies in files


def test_the_metrics_page_is_made_from_the_source() -> None:
    made = PAGE["page"]()
    assert (ROOT / "docs/metrics.md").read_text() == made, "run tools/metrics_page.py > docs/metrics.md"
    assert len(PAGE["metrics"]()) > 15


def test_the_configuration_and_the_alert_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_each_alert_rule_is_tried_and_fires_when_it_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")
    rules = {rule["alert"]: rule for rule in alert_rules()}
    tried = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tried for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == rules.keys()
    for name, rule in rules.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"].keys() == {"summary", "action"}, name


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_metrics_that_there_are(path: Path) -> None:
    board = json.loads(path.read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) >= 4
    for expression in expressions:
        check_names(expression)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    sources = {target["datasource"]["uid"] for panel in board["panels"] for target in panel["targets"]}
    (provisioned,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert sources == {provisioned["uid"]}


def test_every_expression_of_the_dashboards_is_one(tmp_path: Path) -> None:
    """Prometheus itself reads them, as recording rules."""
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards) >= 3
    rules = [
        {"record": f"r:{board['uid'].replace('-', '_')}:{panel['id']}:{number}", "expr": target["expr"]}
        for board in boards
        for panel in board["panels"]
        for number, target in enumerate(panel["targets"])
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))


def test_the_alert_rules_ask_for_metrics_that_there_are() -> None:
    for rule in alert_rules():
        check_names(rule["expr"])


def test_every_metric_of_ours_is_on_a_dashboard() -> None:
    shown = "\n".join(path.read_text() for path in DASHBOARDS)
    assert [metric.name for metric in PAGE["metrics"]() if metric.name not in shown] == []


def check_names(expression: str) -> None:
    """Names and labels' values in an expression are those of the reference page."""
    known = {metric.name: metric for metric in PAGE["metrics"]()}
    kinds = {kind for some in PAGE["KINDS"].values() for kind in some}
    services = {name for who in PAGE["KINDS"] for name in who.split(", ")}
    for name in re.findall(r"\b(?:fleetwatch|process|up)\w*", re.sub(r'"[^"]*"', "", expression)):
        if name.startswith("fleetwatch"):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert base in known, f"{name} in {expression}"
            assert (name != base) == (known[base].type == "histogram"), f"{name} in {expression}"
    for value in re.findall(r'\bkind="([^"]*)"', expression):
        assert value in kinds, expression
    for values in re.findall(r'\bservice=~?"([^"]*)"', expression):
        assert set(values.split("|")) <= services, expression
