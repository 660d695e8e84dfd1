"""Every query of every panel returns data from a real Prometheus that has watched a real conversation, every alert can be
evaluated there, and none of them fires while all is well. Left out without VOICEPING_BIN.
"""

import time
import unittest

from stage import BINARY, Stage
from watch import alerts, queries

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
