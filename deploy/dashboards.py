#!/usr/bin/env python3
"""Builds the Grafana dashboards: `make -C deploy dashboards` writes them to helm/voiceping/files/dashboards, and a test
compares. Every metric is described in docs/metrics.md; every query is run against a real Prometheus by panels.py.

A panel is a line here: its title, its unit, its queries. In queries, [i] is the interval of a rate and {} the part of the
selector that all have: the namespace and, on the pages of one role, the process.
"""

import pathlib
import re

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, text, timeseries
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "helm" / "voiceping" / "files" / "dashboards"
PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
JAEGER = models.DataSourceRef(type_val="jaeger", uid="${traces}")
# Nothing was counted yet, which is the same as zero.
ZERO = " or vector(0)"


class Page:
    """A dashboard that grows from left to right and from top to bottom."""

    def __init__(self, uid, title, description, per_process=False):
        self.per_process = per_process
        self.variables = [
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
            choice("namespace", "Namespace", "label_values(voiceping_ready, namespace)"),
        ]
        if per_process:
            # All of these, and not all that there are: the other role's processes have some of the same metrics.
            self.variables.append(choice("instance", "Process", per_process, everything=None))
        self.board = (
            dashboard.Dashboard(title).uid(uid).description(description).tags(["voiceping"]).timezone("browser")
            .time("now-1h", "now").refresh("30s").tooltip(models.DashboardCursorSync.CROSSHAIR).editable()
            .link(dashboard.DashboardLink("VoicePing").type(models.DashboardLinkType.DASHBOARDS).tags(["voiceping"])
                  .as_dropdown(True).include_vars(True).keep_time(True))
        )

    def row(self, title):
        self.board.with_row(dashboard.Row(title))
        return self

    def number(self, title, unit, query, bad=None, worse=None, width=4, decimals=None, about=""):
        """One number for the whole range or for now, green until it is `bad`."""
        steps = [models.Threshold(value=None, color="green")]
        if bad is not None:
            steps.append(models.Threshold(value=bad, color="orange"))
        if worse is not None:
            steps.append(models.Threshold(value=worse, color="red"))
        if bad is not None and worse is not None and worse < bad:
            steps = [models.Threshold(value=None, color="red"), models.Threshold(value=worse, color="orange"),
                     models.Threshold(value=bad, color="green")]
        panel = (
            stat.Panel().title(title).description(about).unit(unit).datasource(PROMETHEUS).span(width).height(4)
            .thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
            .color_mode(common_models.BigValueColorMode.VALUE).graph_mode(common_models.BigValueGraphMode.AREA)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .with_target(self.query(query, ""))
        )
        self.board.with_panel(panel.decimals(decimals) if decimals is not None else panel)
        return self

    def graph(self, title, unit, *queries, about="", stacked=False, width=8, most=None):
        """Lines over time. A query is (expression, legend)."""
        panel = (
            timeseries.Panel().title(title).description(about).unit(unit).datasource(PROMETHEUS).span(width).height(8)
            .fill_opacity(20 if stacked else 5).line_width(1).show_points(common_models.VisibilityMode.NEVER).min(0)
            .legend(common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.TABLE)
                    .placement(common_models.LegendPlacement.BOTTOM).show_legend(True).calcs(["mean", "max"]))
            .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
                     .sort(common_models.SortOrder.DESCENDING))
        )
        if most is not None:
            panel.max(most)
        if stacked:
            panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
        for number, (expression, legend) in enumerate(queries):
            panel.with_target(self.query(expression, legend).ref_id(chr(ord("A") + number)))
        self.board.with_panel(panel)
        return self

    def words(self, title, content, width=24, height=4):
        self.board.with_panel(text.Panel().title(title).content(content).span(width).height(height))
        return self

    def query(self, expression, legend):
        selector = 'namespace=~"$namespace"'
        if self.per_process:
            selector += ',instance=~"$instance"'
        if expression.endswith(ZERO):
            # With a name, where the lines have some.
            zero = "vector(0)"
            for label in re.findall(r"{{(\w+)}}", legend):
                zero = f'label_replace({zero}, "{label}", "none", "", "")'
            expression = f"{expression.removesuffix(ZERO)} or {zero}"
        expression = expression.replace("{}", "{" + selector + "}").replace("{,", "{" + selector + ",")
        expression = expression.replace("[i]", "[$__rate_interval]")
        return prometheus.Dataquery().expr(expression).legend_format(legend).datasource(PROMETHEUS)

    def built(self):
        for variable in self.variables:
            self.board.with_variable(variable)
        return self.board.build()


def choice(name, label, query, everything=".*"):
    variable = (dashboard.QueryVariable(name).label(label).query(query).datasource(PROMETHEUS).multi(True).include_all(True)
                .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
                .current(models.VariableOption(selected=True, text="All", value="$__all")))
    return variable.all_value(everything) if everything else variable


def quantiles(metric, by="", legend="", which=(0.5, 0.95, 0.99), also=""):
    """The queries for quantiles of a histogram, each a line or, with `by`, several."""
    labels = f"le, {by}" if by else "le"
    rate = f"sum by ({labels}) (rate({metric}_bucket{{{also and ',' + also}}}[i]))"
    return [(f"histogram_quantile({q}, {rate})", f"p{round(q * 100)} {legend}".strip()) for q in which]


def overview():
    page = Page("voiceping-overview", "VoicePing / Overview", "Is it well? What users feel, and what is going on.")
    page.row("What users feel, and what was promised")
    page.number("Press to grant, p95", "s", "histogram_quantile(0.95, sum by (le) "
                "(rate(voiceping_floor_grant_duration_seconds_bucket{}[5m])))", bad=0.05, worse=0.3,
                about="Server time. Ours: under 10 ms. 3GPP TS 22.179, KPI 1: under 300 ms.")
    page.number("Grants within 300 ms", "percentunit", "sum(rate(voiceping_floor_grant_duration_seconds_bucket"
                "{,le=\"0.3\"}[1h])) / sum(rate(voiceping_floor_grant_duration_seconds_count{}[1h]))",
                bad=0.999, worse=0.99, decimals=2, about="Of the last hour. Objective: 99.9 %.")
    page.number("Presses that were answered", "percentunit",
                "sum(rate(voiceping_floor_requests_total{,outcome=~\"granted|busy\"}[1h])) / "
                "sum(rate(voiceping_floor_requests_total{}[1h]))", bad=0.999, worse=0.99, decimals=2,
                about="With the floor, or with the name of who has it. Of the last hour. Objective: 99.9 %.")
    page.number("Node's share of mouth to ear, p99", "s", "histogram_quantile(0.99, sum by (le) "
                "(rate(voiceping_media_packet_delay_seconds_bucket{}[5m])))", bad=0.02, worse=0.1,
                about="From the kernel's receiving a packet to its being handed to the kernel for every listener. The "
                      "standard gives 300 ms from mouth to ear, of which networks and jitter buffers take the most.")
    page.number("Packets that we lost", "percentunit",
                "(sum(rate(voiceping_media_packets_dropped_total{,reason=~\"ring_full|send_queue\"}[1h]))" + ZERO + ")"
                " / sum(rate(voiceping_media_packets_forwarded_total{}[1h]))", bad=0.0001, worse=0.001, decimals=4,
                about="Between workers, or because the kernel did not take them. Of the last hour.")
    page.number("Talks that were cut", "percentunit",
                "(sum(increase(voiceping_floor_freed_total{,cause=~\"expired|node_failed\"}[1h]))" + ZERO + ") / "
                "sum(increase(voiceping_floor_freed_total{}[1h]))", bad=0.001, worse=0.01, decimals=2,
                about="By the loss of a gateway or a media node. Of the last hour.")
    page.number("Two-speaker guard", "short",
                "sum(increase(voiceping_media_gates_closed_total{,reason=\"superseded\"}[24h]))" + ZERO, worse=1,
                decimals=0, about="Gates that a newer talk closed, in a day. Each one has a cause that is to be found.")
    page.number("Floors without media", "short", "sum(voiceping_floor_without_media{})", bad=1, worse=5, decimals=0)
    page.number("Redis", "short", "min(voiceping_state_up{})", bad=1, worse=0.5, decimals=0,
                about="1: every process is answered.")
    page.number("Media nodes that are ready", "short", "max(voiceping_gateway_nodes{,state=\"ready\"})", bad=2, worse=1,
                decimals=0)
    page.number("First certificate ends in", "s", "min(voiceping_tls_certificate_remaining_seconds{})",
                bad=14 * 86400, worse=2 * 86400)
    page.number("Alerts", "short", "count(ALERTS{,alertname=~\"VoicePing.+\",alertstate=\"firing\"})" + ZERO, bad=1,
                worse=3, decimals=0)
    page.row("What is going on")
    page.graph("WebSockets", "short", ("sum by (instance) (voiceping_gateway_sockets{})", "{{instance}}"), stacked=True)
    page.graph("Clients of media nodes", "short", ("sum by (instance) (voiceping_media_connections{})", "{{instance}}"),
               stacked=True)
    page.graph("Floors held", "short", ("sum(voiceping_floor_held{})", "held"),
               ("sum(voiceping_floor_without_media{})", "without media"))
    page.graph("Presses", "reqps", ("sum by (outcome) (rate(voiceping_floor_requests_total{}[i]))", "{{outcome}}"),
               stacked=True)
    page.graph("Press to grant", "s", *quantiles("voiceping_floor_grant_duration_seconds"))
    page.graph("Talks that ended", "reqps", ("sum by (cause) (rate(voiceping_floor_freed_total{}[i]))", "{{cause}}"),
               stacked=True)
    page.graph("Packets to listeners", "pps", ("sum by (instance) (rate(voiceping_media_packets_forwarded_total{}[i]))",
                                               "{{instance}}"), stacked=True)
    page.graph("Node's share of mouth to ear", "s", *quantiles("voiceping_media_packet_delay_seconds"))
    page.graph("Processes that are ready", "short", ("sum by (role) (voiceping_ready{})", "{{role}}"),
               ("sum(voiceping_drain_active{})", "draining"))
    return page.built()


def processes(page):
    page.row("The process")
    page.graph("Processor", "short", ("sum by (instance) (rate(process_cpu_time_seconds_total{}[i]))", "{{instance}}"),
               about="In cores.")
    page.graph("Memory", "bytes", ("process_memory_usage_bytes{}", "{{instance}}"))
    page.graph("File descriptors", "short", ("process_unix_file_descriptor_count{}", "{{instance}}"))
    page.graph("Up for", "s", ("process_uptime_seconds{}", "{{instance}}"))
    page.graph("Drain: connections that are left", "short", ("voiceping_drain_remaining{}", "{{instance}}"))
    page.graph("Telemetry lost", "ops", ("sum by (instance, signal) (rate(voiceping_telemetry_lost_total{}[i]))",
                                         "{{instance}} {{signal}}"))


def gateway():
    page = Page("voiceping-gateway", "VoicePing / Gateway", "Signaling: sockets, messages, pushes.",
                per_process="label_values(voiceping_gateway_sockets, instance)")
    page.row("Sockets")
    page.graph("WebSockets", "short", ("voiceping_gateway_sockets{}", "{{instance}}"), stacked=True, width=6)
    page.graph("Handshakes", "reqps", ("sum by (outcome) (rate(voiceping_gateway_handshakes_total{}[i]))",
                                       "{{outcome}}"), stacked=True, width=6)
    page.graph("Sockets closed", "reqps", ("sum by (reason) (rate(voiceping_gateway_sockets_closed_total{}[i]))",
                                           "{{reason}}"), stacked=True, width=6)
    page.graph("Parked sessions", "short", ("voiceping_gateway_sessions_parked{}", "{{instance}}"), width=6,
               about="Their socket broke; the client may come back.")
    page.row("Messages")
    page.graph("Messages", "reqps", ("sum by (type) (rate(voiceping_gateway_messages_total{}[i]))", "{{type}}"),
               stacked=True)
    page.graph("Refused", "reqps", ("sum by (type, outcome) (rate(voiceping_gateway_messages_total"
                                    "{,outcome!~\"ok|denied\"}[i]))" + ZERO, "{{type}} {{outcome}}"), stacked=True)
    page.graph("Time for a message, p95", "s", *quantiles("voiceping_gateway_message_duration_seconds", "type", "{{type}}",
                                                          (0.95,)))
    page.row("Pushes")
    page.graph("Pushes", "ops", ("sum by (type) (rate(voiceping_gateway_pushes_total{}[i]))", "{{type}}"), stacked=True)
    page.graph("News to all members here", "s", *quantiles("voiceping_gateway_push_duration_seconds"))
    page.graph("Channels", "short", ("voiceping_gateway_channels{}", "{{instance}}"))
    page.row("Media nodes, as gateways see them")
    page.graph("Media nodes", "short", ("max by (state) (voiceping_gateway_nodes{})", "{{state}}"))
    page.graph("Calls, p95", "s", *quantiles("rpc_client_call_duration_seconds", "rpc_method", "{{rpc_method}}", (0.95,)))
    page.graph("Calls that failed", "reqps", ("sum by (rpc_method, rpc_response_status_code) (rate("
               "rpc_client_call_duration_seconds_count{,rpc_response_status_code!=\"OK\"}[i]))" + ZERO,
               "{{rpc_method}} {{rpc_response_status_code}}"))
    processes(page)
    return page.built()


def media_node():
    page = Page("voiceping-media-node", "VoicePing / Media node", "Audio: transports, packets, gates.",
                per_process="label_values(voiceping_media_connections, instance)")
    page.row("Load")
    page.graph("Clients", "short", ("voiceping_media_connections{}", "{{instance}}"))
    page.graph("Share of the capacity", "percentunit",
               ("voiceping_media_connections{} / voiceping_media_capacity{}", "{{instance}}"))
    page.graph("Workers busy", "percentunit", ("rate(voiceping_media_worker_time_seconds_total{,state=\"busy\"}[i])",
                                               "{{instance}} {{worker}}"), most=1)
    page.row("Packets")
    page.graph("Node's share of mouth to ear, p99", "s", *quantiles("voiceping_media_packet_delay_seconds", "instance",
                                                                    "{{instance}}", (0.99,)))
    page.graph("Forwarded to listeners", "pps", ("sum by (instance) (rate(voiceping_media_packets_forwarded_total{}[i]))",
                                                 "{{instance}}"), stacked=True)
    page.graph("Lost here", "pps", ("sum by (instance, reason) (rate(voiceping_media_packets_dropped_total"
                                    "{,reason=~\"ring_full|send_queue\"}[i]))", "{{instance}} {{reason}}"))
    page.graph("Received", "pps", ("sum by (kind) (rate(voiceping_media_packets_received_total{}[i]))", "{{kind}}"),
               stacked=True)
    page.graph("Refused, and why", "pps", ("sum by (reason) (rate(voiceping_media_packets_dropped_total"
                                           "{,reason!~\"ring_full|send_queue\"}[i]))", "{{reason}}"),
               about="gate_closed is no fault: idle browsers send all the time.", stacked=True)
    page.graph("Network", "binBps", ("sum by (network_io_direction) (rate(voiceping_media_io_bytes_total{}[i]))",
                                     "{{network_io_direction}}"))
    page.graph("Asked for again", "pps", ("sum by (network_io_direction) (rate(voiceping_media_nacks_total{}[i]))",
                                          "{{network_io_direction}}"),
               ("sum(rate(voiceping_media_retransmissions_total{}[i]))" + ZERO, "sent again"),
               about="By listeners (receive) and of speakers (transmit): loss on the way.")
    page.graph("Packets in a call to the kernel", "short", ("sum by (instance) (rate(voiceping_media_packets_sent_total{}[i]))"
               " / sum by (instance) (rate(voiceping_media_send_calls_total{}[i]))", "{{instance}}"))
    page.graph("Processor time of a forwarded packet", "s",
               ("sum by (instance) (rate(process_cpu_time_seconds_total{}[i])) / "
                "sum by (instance) (rate(voiceping_media_packets_forwarded_total{}[i]) > 10)", "{{instance}}"))
    page.row("Talks")
    page.graph("Gates open", "short", ("voiceping_media_gates_open{}", "{{instance}}"), stacked=True)
    page.graph("Gates opened and closed", "ops", ("sum(rate(voiceping_media_gates_opened_total{}[i]))", "opened"),
               ("sum by (reason) (rate(voiceping_media_gates_closed_total{}[i]))", "{{reason}}"))
    page.graph("Gates refused to gateways", "ops", ("sum by (reason) (rate(voiceping_media_floor_refused_total{}[i]))"
                                                    + ZERO, "{{reason}}"))
    page.graph("Gate open to first packet out", "s", *quantiles("voiceping_media_talk_start_duration_seconds"),
               about="With the time that the speaker's device takes to begin.")
    page.graph("Packets of speakers", "pps", ("sum by (instance) (rate(voiceping_media_packets_admitted_total{}[i]))",
                                              "{{instance}}"), stacked=True)
    page.graph("Relayed between nodes", "pps", ("sum by (network_io_direction) (rate(voiceping_media_relay_packets_total"
                                                "{}[i]))" + ZERO, "{{network_io_direction}}"))
    page.graph("Nodes that take talks from here", "short", ("voiceping_media_relay_nodes{}", "{{instance}}"))
    page.row("Transports")
    page.graph("Transports", "short", ("sum by (state) (voiceping_media_transports{})", "{{state}}"), stacked=True)
    page.graph("Streams", "short", ("sum(voiceping_media_producers{})", "producers"),
               ("sum(voiceping_media_consumers{})", "consumers"))
    page.graph("Handshakes", "ops", ("sum(rate(voiceping_media_transports_connected_total{}[i]))", "succeeded"),
               ("sum by (reason) (rate(voiceping_media_transports_closed_total"
                "{,reason=~\"dtls_failed|fingerprint_mismatch\"}[i]))", "{{reason}}"))
    page.graph("Closed", "ops", ("sum by (reason) (rate(voiceping_media_transports_closed_total{}[i]))",
                                 "{{reason}}"), stacked=True)
    processes(page)
    return page.built()


def redis_and_floors():
    page = Page("voiceping-floors", "VoicePing / Redis and floors", "The shared state, and what is decided with it.")
    page.row("Floors")
    page.graph("Floors held", "short", ("sum by (instance) (voiceping_floor_held{})", "{{instance}}"), stacked=True)
    page.graph("Floors without media", "short", ("sum by (instance) (voiceping_floor_without_media{})", "{{instance}}"))
    page.graph("Presses", "reqps", ("sum by (outcome) (rate(voiceping_floor_requests_total{}[i]))", "{{outcome}}"),
               stacked=True)
    page.graph("Talks that ended", "ops", ("sum by (cause) (rate(voiceping_floor_freed_total{}[i]))", "{{cause}}"),
               stacked=True)
    page.graph("How long talks are", "s", *quantiles("voiceping_floor_talk_duration_seconds"))
    page.graph("Leases renewed", "ops", ("sum by (outcome) (rate(voiceping_floor_renewals_total{}[i]))" + ZERO,
                                         "{{outcome}}"))
    page.row("Redis")
    page.graph("Answers", "short", ("min by (instance) (voiceping_state_up{})", "{{instance}}"), most=1)
    page.graph("Commands", "ops", ("sum by (db_operation_name) (rate(db_client_operation_duration_seconds_count{}[i]))",
                                   "{{db_operation_name}}"), stacked=True)
    page.graph("Commands that failed", "ops", ("sum by (db_operation_name, error_type) (rate("
               "db_client_operation_duration_seconds_count{,error_type!=\"\"}[i]))" + ZERO,
               "{{db_operation_name}} {{error_type}}"))
    page.graph("Time for a command", "s", *quantiles("db_client_operation_duration_seconds"))
    page.graph("Decision to announcement", "s", *quantiles("voiceping_state_announcement_delay_seconds"),
               about="The bus: from asking for a change to hearing of it, at the gateway that asked.")
    page.graph("News of channels", "ops", ("sum by (type) (rate(voiceping_state_events_total{}[i]))", "{{type}}"),
               stacked=True)
    page.graph("Connections made", "short", ("sum by (instance) (voiceping_state_connections_total{})", "{{instance}}"),
               about="Each but a process's first says that one broke.")
    page.graph("Told again after it forgot", "short", ("sum(voiceping_state_recoveries_total{})" + ZERO, "floors"))
    page.graph("Channels asked for", "short", ("sum by (instance) (voiceping_state_channels{})", "{{instance}}"))
    return page.built()


class JaegerQuery(Builder):
    """What Grafana's Jaeger data source takes: a search, or the id of a trace."""

    def __init__(self, **fields):
        self.fields = fields

    def build(self):
        return models_query(self.fields)


def models_query(fields):
    class Query:
        def to_json(self):
            return {"refId": "A", "datasource": {"type": "jaeger", "uid": "${traces}"}, **fields}
    return Query()


def talk():
    page = Page("voiceping-talk", "VoicePing / One talk", "Where the time of a press goes, and the trace of one.")
    page.variables += [
        dashboard.DatasourceVariable("traces").label("Jaeger").type("jaeger"),
        dashboard.TextBoxVariable("trace").label("Trace id"),
    ]
    page.row("Where the time of a press goes")
    page.graph("Stages of a press, p95", "s",
               quantiles("voiceping_floor_grant_duration_seconds", legend="press to grant", which=(0.95,))[0],
               quantiles("db_client_operation_duration_seconds", legend="the state decides", which=(0.95,),
                         also='db_operation_name="take"')[0],
               quantiles("rpc_client_call_duration_seconds", legend="the gate opens", which=(0.95,),
                         also='rpc_method=~".*SetFloor"')[0],
               quantiles("voiceping_state_announcement_delay_seconds", legend="announced", which=(0.95,))[0],
               quantiles("voiceping_gateway_push_duration_seconds", legend="pushed to members", which=(0.95,))[0],
               quantiles("voiceping_media_talk_start_duration_seconds", legend="first packet out", which=(0.95,))[0],
               width=12)
    page.graph("Press to grant", "s", *quantiles("voiceping_floor_grant_duration_seconds"), width=12)
    page.row("One press")
    page.words("How to use it", "Pick a press below, or put the `trace_id` of a line of the log into **Trace id**. The trace "
               "begins with `ptt-start` at the speaker's gateway and ends with the first packet out and the pushes of the "
               "other gateways.", height=3)
    page.board.with_panel(panel("table", "The latest presses", 8, {
        "queryType": "search", "service": "voiceping-gateway", "operation": "ptt-start", "limit": 20}))
    page.board.with_panel(panel("traces", "Trace $trace", 16, {"query": "$trace"}))
    return page.built()


def panel(kind, title, height, query):
    return (dashboard.Panel().type(kind).title(title).datasource(JAEGER).span(24).height(height)
            .with_target(JaegerQuery(**query)))


PAGES = {
    "overview": overview,
    "gateway": gateway,
    "media-node": media_node,
    "redis-and-floors": redis_and_floors,
    "one-talk": talk,
}


def main():
    plugins.register_default_plugins()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        written = JSONEncoder(sort_keys=True, indent=2).encode(page())
        (FOLDER / f"{name}.json").write_text(written + "\n")


if __name__ == "__main__":
    main()
