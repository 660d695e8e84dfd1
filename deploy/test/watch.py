"""What the dashboards and the alerts ask, and what docs/metrics.md says there is."""

import json
import re

import yaml

from chart import REPOSITORY, TOOLS

ALERTS = REPOSITORY / "deploy" / "alerts.yaml"
DASHBOARDS = REPOSITORY / "deploy" / "dashboards"
PROMTOOL = TOOLS / "prometheus" / "promtool"
PROMETHEUS = TOOLS / "prometheus" / "prometheus"


def alerts():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboards():
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def queries(interval="1m"):
    """(dashboard, panel, expression) of everything that is asked of Prometheus, with all of the variables at `All`."""
    for name, board in dashboards().items():
        for panel in flat(board["panels"]):
            for target in panel.get("targets", []):
                if target["datasource"]["type"] == "prometheus":
                    yield name, panel["title"], filled(target["expr"], interval)


def flat(panels):
    for panel in panels:
        yield panel
        yield from flat(panel.get("panels") or [])


def filled(expression, interval, instance=".*"):
    expression = expression.replace("$__rate_interval", interval).replace("$namespace", ".*")
    return expression.replace("$instance", instance)


def metrics_in(expression):
    """The names of the metrics that a query asks for."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(by|without|on|ignoring) *\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    return set(re.findall(r"\b[a-z_]+(?:_[a-z_]+)+\b(?! *\()", bare)) - {"inf"}


def documented():
    """The metrics of docs/metrics.md as Prometheus spells them, with the series that a histogram has."""
    names = set()
    for line in (REPOSITORY / "docs" / "metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 7 or cells[2] not in ("counter", "gauge", "histogram"):
            continue
        name = cells[5].strip("`")
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if cells[2] == "histogram" else {name}
    return names
