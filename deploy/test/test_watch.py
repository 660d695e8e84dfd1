"""Alerts fire when they should and lead to a runbook; dashboards are those that dashboards.py builds; both ask for what there is.

test_panels.py runs the queries against a real Prometheus.
"""

import importlib.util
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

from chart import REPOSITORY
from watch import ALERTS, DASHBOARDS, PROMTOOL, alerts, documented, flat, dashboards, metrics_in, queries

HERE = pathlib.Path(__file__).resolve().parent


def promtool(*arguments):
    done = subprocess.run([PROMTOOL, *arguments], cwd=HERE, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class Alerts(unittest.TestCase):
    def test_prometheus_takes_them(self):
        code, said = promtool("check", "rules", ALERTS)
        self.assertEqual(code, 0, said)

    def test_they_fire_when_they_should_and_only_then(self):
        code, said = promtool("test", "rules", "alerts.test.yaml")
        self.assertEqual(code, 0, said)

    def test_each_is_seen_firing_and_silent(self):
        tests = yaml.safe_load((HERE / "alerts.test.yaml").read_text())["tests"]
        cases = [case for test in tests for case in test["alert_rule_test"]]
        firing = {case["alertname"] for case in cases if case["exp_alerts"]}
        silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
        names = {rule["alert"] for rule in alerts()}
        self.assertEqual(firing, names)
        self.assertEqual(silent, names)

    def test_each_leads_to_a_runbook(self):
        page = (REPOSITORY / "docs" / "operations.md").read_text()
        anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
                   for title in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
        for rule in alerts():
            path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            self.assertEqual(path, "docs/operations.md", rule["alert"])
            self.assertIn(anchor, anchors, rule["alert"])
            self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
            self.assertIn(rule["alert"], page, "by its name, which is what one searches for at night")

    def test_they_ask_for_what_there_is(self):
        for rule in alerts():
            self.assertLessEqual(metrics_in(rule["expr"]) - {"up"}, documented(), rule["alert"])


class Dashboards(unittest.TestCase):
    def test_they_are_those_that_are_built(self):
        spec = importlib.util.spec_from_file_location("dashboards", REPOSITORY / "deploy" / "dashboards.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with tempfile.TemporaryDirectory() as folder:
            module.FOLDER = pathlib.Path(folder)
            module.main()
            built = {path.name: path.read_text() for path in pathlib.Path(folder).iterdir()}
        kept = {path.name: path.read_text() for path in DASHBOARDS.iterdir()}
        self.assertEqual(built.keys(), kept.keys())
        for name, text in built.items():
            self.assertEqual(text, kept[name], "run `make -C deploy dashboards`")

    def test_they_ask_for_what_there_is(self):
        for name, panel, expression in queries():
            with self.subTest(f"{name}: {panel}"):
                found = metrics_in(expression)
                self.assertTrue(found or "ALERTS" in expression)
                self.assertLessEqual(found, documented())

    def test_prometheus_understands_every_query(self):
        rules = [{"record": f"query:{number}", "expr": expression}
                 for number, (_, _, expression) in enumerate(queries())]
        for rule in rules:
            rule["record"] = rule["record"].replace(":", "_")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}, file)
            file.flush()
            code, said = promtool("check", "rules", "--lint=none", file.name)
        self.assertEqual(code, 0, said)

    def test_every_metric_is_on_one_of_them(self):
        asked = set().union(*(metrics_in(expression) for _, _, expression in queries()))
        unasked = {name for name in documented() - asked if not name.endswith(("_sum", "_count", "_bucket"))}
        self.assertEqual(unasked, set())

    def test_panels_are_named_once_and_fit(self):
        for name, board in dashboards().items():
            panels = [panel for panel in flat(board["panels"]) if panel["type"] != "row"]
            titles = [panel["title"] for panel in panels]
            self.assertEqual(len(titles), len(set(titles)), name)
            for panel in panels:
                self.assertLessEqual(panel["gridPos"]["x"] + panel["gridPos"]["w"], 24, f"{name}: {panel['title']}")



if __name__ == "__main__":
    unittest.main()
