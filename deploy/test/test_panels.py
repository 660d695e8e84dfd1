"""Every query of every panel returns data from a real Prometheus that has watched a real conversation, every alert can be
evaluated there, and none of them fires while all is well. Left out without VOICEPING_BIN.
"""

import time
import unittest

from stage import BINARY, Stage
from watch import alerts, dashboards, flat, queries

SECONDS = 20


@unittest.skipUnless(BINARY, "VOICEPING_BIN is not set")
class Panels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stage = cls.enterClassContext(Stage())
        cls.start = time.time()
        cls.stage.talk(SECONDS)
        cls.end = time.time()

    def test_every_panel_has_data(self):
        empty = []
        for name, panel, expression in queries(interval="10s"):
            series = self.stage.range(expression, self.start, self.end)
            if not any(value != "NaN" for each in series for _, value in each["values"]):
                empty.append(f"{name}: {panel}: {expression}")
        self.assertEqual(empty, [])

    def test_the_traces_that_are_looked_for_are_there(self):
        searched = [target for board in dashboards().values() for panel in flat(board["panels"])
                    for target in panel.get("targets", []) if target.get("queryType") == "search"]
        self.assertTrue(searched)
        for target in searched:
            of_it = [trace for trace in self.stage.collector.traces().values()
                     if (target["service"], target["operation"]) in [(service, span.name) for service, span in trace]]
            self.assertTrue(of_it, target)
            self.assertTrue(any(len({service for service, _ in trace}) > 1 for trace in of_it), "it goes on in another process")

    def test_prometheus_evaluates_every_alert(self):
        rules = [rule for group in self.stage.ask_prometheus("rules")["groups"] for rule in group["rules"]]
        self.assertEqual({rule["name"] for rule in rules}, {rule["alert"] for rule in alerts()})
        for rule in rules:
            self.assertEqual(rule["health"], "ok", rule)

    def test_nothing_critical_is_wrong_on_a_good_day(self):
        firing = [alert["labels"] for alert in self.stage.ask_prometheus("alerts")["alerts"] if alert["state"] == "firing"]
        self.assertEqual([labels for labels in firing if labels["severity"] == "critical"], [])


if __name__ == "__main__":
    unittest.main()
