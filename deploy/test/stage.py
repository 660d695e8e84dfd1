"""A real cluster that is watched by a real Prometheus and a collector of traces, for test_panels.py and draw.py: two gateways and
two media nodes with certificates, Redis, and the load generator's members, who talk.

Needs the binary in VOICEPING_BIN, redis-server and openssl. Everything is on loopback, on ports that are free, and ends with it.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import grpc
import yaml
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from watch import ALERTS, PROMETHEUS

BINARY = os.environ.get("VOICEPING_BIN")
ADDRESS = "127.0.0.1"
NAME = "media-node.voiceping"


class Stage(contextlib.ExitStack):
    """Enter it to start; the processes are in `processes`, by name."""

    def __enter__(self):
        super().__enter__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.processes = {}
        self.secret = secrets.token_hex(32)
        try:
            self.build()
        except BaseException:
            self.close()
            raise
        return self

    def build(self):
        self.collector = Collector()
        self.callback(self.collector.stop)
        redis = free_port()
        self.run("redis", "redis-server", "--port", str(redis), "--bind", ADDRESS, "--save", "")
        certificates(self.folder)
        shared = ["--redis-url", f"redis://{ADDRESS}:{redis}", "--grpc-tls-name", NAME, "--log", "info"]
        for flag, file in (("cert", "tls.crt"), ("key", "tls.key"), ("ca", "authority.crt")):
            shared += [f"--grpc-tls-{flag}", str(self.folder / file)]
        self.admin, self.gateways = {}, []
        for number in range(2):
            name, admin = f"media-node-{number}", free_port()
            listen = ["--grpc-listen", f"{ADDRESS}:0", "--media-listen", f"{ADDRESS}:0", "--media-workers", "2"]
            self.run(name, BINARY, "media-node", *listen, "--admin-listen", f"{ADDRESS}:{admin}", *shared)
            self.admin[name] = admin
        for number in range(2):
            name, port, admin = f"gateway-{number}", free_port(), free_port()
            listen = ["--listen", f"{ADDRESS}:{port}", "--admin-listen", f"{ADDRESS}:{admin}"]
            limits = ["--connect-rate", "1000", "--connect-burst", "2000"]
            self.run(name, BINARY, "gateway", *listen, *limits, "--jwt-secret", self.secret, *shared)
            self.admin[name] = admin
            self.gateways.append(port)
        for port in self.gateways:
            until("a gateway is ready", lambda: ask(f"http://{ADDRESS}:{port}/ready") == "ready", self)
        self.prometheus = free_port()
        self.watch()

    def watch(self):
        """Starts Prometheus, with the labels that the chart and the compose file give."""
        jobs = [{
            "targets": [f"{ADDRESS}:{port}"],
            "labels": {"role": name.rpartition("-")[0], "instance": name, "job": "voiceping", "namespace": "stage"},
        } for name, port in self.admin.items()]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS.resolve())],
            "scrape_configs": [{"job_name": "voiceping", "static_configs": jobs}],
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.run("prometheus", PROMETHEUS, "--config.file", str(self.folder / "prometheus.yaml"), "--log.level", "warn",
                 "--storage.tsdb.path", str(self.folder / "series"), "--web.listen-address", f"{ADDRESS}:{self.prometheus}")
        until("Prometheus is there", lambda: "Ready" in ask(f"http://{ADDRESS}:{self.prometheus}/-/ready"), self)
        everybody = len(self.admin)
        until("Prometheus reads everybody", lambda: len(self.query("up == 1")) == everybody, self)

    def run(self, name, *command):
        log = (self.folder / f"{name}.log").open("w")
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("VOICEPING_", "OTEL_"))}
        variables |= {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url, "OTEL_BSP_SCHEDULE_DELAY": "500",
                      "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
        process = subprocess.Popen([str(word) for word in command], env=variables, stdout=log, stderr=subprocess.STDOUT)
        self.processes[name] = process
        self.callback(lambda: (process.kill(), process.wait(), log.close()))
        return process

    def said(self, name):
        return (self.folder / f"{name}.log").read_text()

    def talk(self, seconds, members=24, channels=4, may_fail=False):
        """Lets members of the load generator talk for so long. It fails when somebody lost a socket, unless that was meant."""
        urls = [flag for port in self.gateways for flag in ("--url", f"ws://{ADDRESS}:{port}")]
        done = subprocess.run(
            [BINARY, "loadtest", *urls, "--jwt-secret", self.secret, "--members", str(members), "--channels", str(channels),
             "--duration", f"{seconds}s", "--talk-mean", "2s", "--pause-mean", "2s"],
            capture_output=True, text=True, timeout=seconds + 120,
        )
        if done.returncode and not may_fail:
            raise AssertionError(f"the load generator: {done.stdout}{done.stderr}")

    def end(self, name):
        """Tells a process to end, and waits until it has."""
        self.processes[name].send_signal(signal.SIGTERM)
        if self.processes[name].wait(90):
            raise AssertionError(f"{name}: {self.said(name)}")

    def query(self, expression):
        """The series of an instant."""
        return self.ask_prometheus("query", query=expression)

    def range(self, expression, start, end, step=1):
        """The series of a time: lists of (time, value as text)."""
        return self.ask_prometheus("query_range", query=expression, start=start, end=end, step=step)

    def ask_prometheus(self, what, **arguments):
        url = f"http://{ADDRESS}:{self.prometheus}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                found = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from error
        return found["result"] if isinstance(found, dict) and "result" in found else found


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent: (service, span)."""

    def __init__(self):
        self.spans = []
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.url = f"http://{ADDRESS}:{self.server.add_insecure_port(f'{ADDRESS}:0')}"
        self.server.start()

    def Export(self, request, context):
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(named["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self):
        self.server.stop(None)

    def traces(self):
        """The spans by their trace, each in the order of time."""
        found = {}
        for service, span in sorted(list(self.spans), key=lambda each: each[1].start_time_unix_nano):
            found.setdefault(span.trace_id.hex(), []).append((service, span))
        return found


def free_port():
    with socket.socket() as tcp:
        tcp.bind((ADDRESS, 0))
        return tcp.getsockname()[1]


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError as error:
        return str(error)


def until(what, holds, stage):
    for _ in range(600):
        if holds():
            return
        for name, process in stage.processes.items():
            if process.poll() is not None:
                raise AssertionError(f"{what}: {name} has ended: {stage.said(name)}")
        time.sleep(0.1)
    raise AssertionError(f"{what}: never")


def certificates(folder):
    """An authority, and one certificate for all processes, as with the chart."""
    def make(name, *arguments):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
        subprocess.run(["openssl", "req", "-x509", "-days", "60", *key, *files, *arguments], check=True, capture_output=True)

    make("authority", "-subj", "/CN=authority")
    make("tls", "-subj", f"/CN={NAME}", "-CA", folder / "authority.crt", "-CAkey", folder / "authority.key",
         "-addext", f"subjectAltName=DNS:{NAME}", "-addext", "basicConstraints=critical,CA:FALSE")
