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


def presses(collector):
    """Traces of presses, the latest first, as (id, spans)."""
    found = [(key, spans) for key, spans in collector.traces().items()
             if any(span.name == "ptt-start" for _, span in spans) and len({service for service, _ in spans}) > 1]
    return sorted(found, key=lambda each: each[1][0][1].start_time_unix_nano, reverse=True)


def table(traces):
    return [{"id": key, "spans": len(spans), "took": (max(span.end_time_unix_nano for _, span in spans)
             - spans[0][1].start_time_unix_nano) / 1e9} for key, spans in traces[:10]]


def waterfall(spans):
    """A trace's spans, children after their parents."""
    by_parent, known = {}, {span.span_id for _, span in spans}
    for service, span in spans:
        by_parent.setdefault(span.parent_span_id if span.parent_span_id in known else b"", []).append((service, span))
    start = spans[0][1].start_time_unix_nano

    def under(parent, depth):
        for service, span in by_parent.get(parent, []):
            yield {"service": service, "name": span.name, "depth": depth, "from": (span.start_time_unix_nano - start) / 1e9,
                   "took": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9}
            yield from under(span.span_id, depth + 1)

    return list(under(b"", 0))


def main():
    with Stage() as stage:
        start = time.time()
        # A gateway is replaced in the middle, as in an upgrade.
        threading.Timer(SECONDS * 0.6, lambda: stage.end("gateway-1")).start()
        stage.talk(SECONDS, members=80, channels=8, may_fail=True)
        end = time.time()
        traces = presses(stage.collector)
        richest = max((spans for _, spans in traces), key=len)
        for name, board in dashboards().items():
            panels = list(drawn(stage, name, board, start, end))
            shown = {"title": board["title"], "start": start, "end": end, "panels": panels,
                     "latest": table(traces), "trace": waterfall(richest)}
            (TOOLS / "node" / "shown.json").write_text(json.dumps(shown))
            script = (REPOSITORY / "deploy" / "test" / "draw.js").read_text()
            (TOOLS / "node" / "draw.js").write_text(script)
            picture = PICTURES / f"dashboard-{name}.png"
            subprocess.run(["node", "draw.js", "shown.json", picture], cwd=TOOLS / "node", check=True)
            print(picture, file=sys.stderr)


if __name__ == "__main__":
    main()
