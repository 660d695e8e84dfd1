"""Draws the dashboards as Grafana would, from a real Prometheus that has watched a real conversation: `make -C deploy pictures`
writes docs/images/dashboard-*.png. Grafana itself is not needed; Chromium and the packages of e2e/ are.
"""

import json
import os
import subprocess
import sys
import threading
import time

from chart import REPOSITORY, TOOLS
from stage import Stage
from watch import dashboards, filled

SECONDS = int(os.environ.get("DRAW_SECONDS", "150"))
PICTURES = REPOSITORY / "docs" / "images"


def drawn(stage, name, board, start, end):
    """The panels of a dashboard with what they show."""
    for panel in board["panels"]:
        lines = []
        for target in panel.get("targets", []):
            if target["datasource"]["type"] != "prometheus":
                continue
            for series in stage.range(filled(target["expr"], "15s", f"{name}.*"), start, end):
                label = target["legendFormat"]
                for key, value in series["metric"].items():
                    label = label.replace("{{" + key + "}}", value)
                lines.append({"label": label, "values": [[at, float(value)] for at, value in series["values"]]})
        fields = panel.get("fieldConfig", {}).get("defaults", {})
        yield {
            "title": panel["title"], "type": panel["type"], "place": panel["gridPos"], "lines": lines,
            "unit": fields.get("unit", ""), "decimals": fields.get("decimals"), "content": panel.get("options", {}).get("content"),
            "stacked": fields.get("custom", {}).get("stacking", {}).get("mode") == "normal",
            "steps": fields.get("thresholds", {}).get("steps", []),
        }


def main():
    with Stage() as stage:
        start = time.time()
        # A gateway is replaced in the middle, as in an upgrade.
        threading.Timer(SECONDS * 0.6, lambda: stage.end("gateway-1")).start()
        stage.talk(SECONDS, members=80, channels=8, may_fail=True)
        end = time.time()
        for name, board in dashboards().items():
            shown = {"title": board["title"], "start": start, "end": end, "panels": list(drawn(stage, name, board, start, end))}
            (TOOLS / "node" / "shown.json").write_text(json.dumps(shown))
            script = (REPOSITORY / "deploy" / "test" / "draw.js").read_text()
            (TOOLS / "node" / "draw.js").write_text(script)
            picture = PICTURES / f"dashboard-{name}.png"
            subprocess.run(["node", "draw.js", "shown.json", picture], cwd=TOOLS / "node", check=True)
            print(picture, file=sys.stderr)


if __name__ == "__main__":
    main()
