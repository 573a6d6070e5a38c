"""What an operator is given: alert rules, a dashboard and a page to read; all of it true to what the server shows."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import promql_parser
import pytest
import yaml

from omnirt_server import serve
from tests.server.serving import Serving

OPS = Path(str(files("omnirt_server"))) / "ops"
GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()

VARIABLES = {"$__rate_interval": "5m", "$job": "omnirt", "$instance": ".*", "$model": ".*"}
OF_A_SCRAPE = {"up", "ALERTS"}
"""Series that Prometheus itself makes."""

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is absent")


def panels() -> list[dict[str, object]]:
    return [panel for panel in json.loads((OPS / "dashboard.json").read_text())["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [expression.replace(name, value) for expression in found]
    return found


def alert_expressions() -> list[str]:
    groups = yaml.safe_load((OPS / "alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def metrics_in(node: promql_parser.Expr) -> Iterator[tuple[str, set[str]]]:
    """Each series that an expression selects, with the labels that it is selected by."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    for child in _children(node):
        yield from metrics_in(child)


def _children(node: promql_parser.Expr) -> list[promql_parser.Expr]:
    match node:
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            return [node.expr]
        case promql_parser.SubqueryExpr():
            return [node.expr]
        case promql_parser.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql_parser.Call():
            return list(node.args)
        case promql_parser.MatrixSelector():
            return [node.vector_selector]
        case _:
            return []


def shown(server: Serving) -> set[str]:
    """Names of the samples that the server can show, of families without a sample too."""
    names = set()
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            names |= {name + part for part in parts}
    return names


@pytest.mark.parametrize("expression", [*dashboard_expressions(), *alert_expressions()])
def test_an_expression_asks_for_what_the_server_shows(server: Serving, expression: str):
    asked = dict(metrics_in(promql_parser.parse(expression)))

    assert asked
    assert asked.keys() <= shown(server) | OF_A_SCRAPE


def test_every_series_of_the_lab_is_on_the_dashboard_and_in_the_guide(server: Serving):
    asked = {name for expression in dashboard_expressions() for name, _ in metrics_in(promql_parser.parse(expression))}
    own = {re.sub("_(bucket|sum|count)$", "", name) for name in shown(server) if name.startswith("omnirt_")}

    assert own <= {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    assert {name for name in own if f"`{name}" not in GUIDE} == set()


def test_panels_have_places_of_their_own_and_a_title():
    places = [panel["gridPos"] for panel in panels()]

    assert all(panel["title"] for panel in panels())
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)


def test_every_alert_stands_in_the_guide_and_in_the_rule_tests():
    groups = yaml.safe_load((OPS / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    tested = (OPS / "alerts_test.yml").read_text()

    assert {alert for alert in alerts if f"`{alert}`" not in GUIDE or alert not in tested} == set()


@needs_promtool
def test_the_alert_rules_pass_their_tests():
    checked = subprocess.run(["promtool", "check", "rules", OPS / "alerts.yml"], capture_output=True, text=True)
    tried = subprocess.run(["promtool", "test", "rules", OPS / "alerts_test.yml"], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert tried.returncode == 0, tried.stdout + tried.stderr


@needs_promtool
def test_prometheus_takes_the_guide_s_configuration(tmp_path: Path):
    (tmp_path / "token").write_text("secret")
    found = re.search(r"```yaml\n(scrape_configs:.*?)```", GUIDE, re.DOTALL)
    assert found is not None
    (tmp_path / "prometheus.yml").write_text(
        found[1].replace("/etc/prometheus/omnirt-token", str(tmp_path / "token"))
        + f"rule_files: ['{OPS / 'alerts.yml'}']\n"
    )

    checked = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "9 rules found" in checked.stdout


def test_the_guide_s_service_starts_the_command_with_flags_that_it_has():
    found = re.search(r"ExecStart=\S+omnirt serve (.*?)\n[A-Z]", GUIDE, re.DOTALL)
    assert found is not None
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)

    arguments = parser.parse_args(found[1].replace("\\\n", " ").split())

    assert (arguments.host, arguments.port) == ("127.0.0.1", 8000)
