"""The real processes start with the variables that the chart gives them, find each other, and end within their grace.

Needs the binary in VOICEPING_BIN, redis-server and openssl; is left out without the first.
"""

import os
import pathlib
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from chart import environment, merged, pods, render
from matrix import REST, TURN, WATCHED

BINARY = os.environ.get("VOICEPING_BIN")
ADDRESS = "127.0.0.1"


def free_ports(count=1):
    """The first of so many ports in a row that are free now, for TCP and UDP."""
    while True:
        first = 20000 + secrets.randbelow(10000)
        sockets = [(socket.socket(socket.AF_INET, kind), port)
                   for port in range(first, first + count) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
        try:
            for each, port in sockets:
                each.bind((ADDRESS, port))
            return first
        except OSError:
            continue
        finally:
            for each, _ in sockets:
                each.close()


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@unittest.skipUnless(BINARY, "VOICEPING_BIN is not set")
class Processes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.secrets = {}
        self.redis_port = free_ports()
        self.values = {
            "tokens": {"existingSecret": "tokens"},
            "grpc": {"port": free_ports()},
            "redis": {"urls": [f"redis://{ADDRESS}:{self.redis_port}"], "password": {"existingSecret": "redis"}},
            "mediaNode": {"port": free_ports(2), "drainSeconds": 5},
            "gateway": {"drainSeconds": 5},
        }
        password = secrets.token_hex(16)
        self.secrets["tokens", "jwt-secret"] = secrets.token_hex(32)
        self.secrets["turn", "turn-secret"] = secrets.token_hex(32)
        self.secrets["redis", "redis-password"] = password
        self.secrets["cluster", "cluster-secret"] = secrets.token_hex(16)
        listen = ["--port", str(self.redis_port), "--bind", ADDRESS]
        self.run_quietly("redis-server", *listen, "--save", "", "--requirepass", password)

    def run_quietly(self, *command, variables=None):
        log = self.folder / f"{secrets.token_hex(4)}.log"
        with log.open("w") as out:
            process = subprocess.Popen(command, env=variables or os.environ, stdout=out, stderr=subprocess.STDOUT)
        process.log = log
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process

    def start(self, objects, role, **changed):
        """Starts a role as its container would be, but for where files are."""
        spec = next(spec for name, _, spec in pods(objects) if name == f"voice-voiceping-{role}")
        container = spec["containers"][0]
        variables = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
        for name, each in environment(container).items():
            source = each.get("valueFrom", {})
            if "secretKeyRef" in source:
                value = self.secrets[source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]]
            elif "fieldRef" in source:
                value = ADDRESS
            else:
                value = each["value"].replace("$(POD_IP)", ADDRESS)
            variables[name] = value.replace("/etc/voiceping", str(self.folder))
        self.mount(spec, container)
        # In a pod everybody has an address of his own.
        variables["VOICEPING_ADMIN_LISTEN"] = f"{ADDRESS}:{free_ports()}"
        process = self.run_quietly(BINARY, *container["args"], variables=variables | changed)
        process.grace = spec["terminationGracePeriodSeconds"]
        process.admin = f"http://{variables['VOICEPING_ADMIN_LISTEN']}"
        process.probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
        return process

    def mount(self, spec, container):
        """Writes the keys of Secrets to where the container would find them."""
        mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
        for volume in spec.get("volumes", []):
            for item in volume.get("secret", {}).get("items", []):
                folder = pathlib.Path(mounts[volume["name"]].replace("/etc/voiceping", str(self.folder)))
                folder.mkdir(exist_ok=True)
                value = self.secrets.get((volume["secret"]["secretName"], item["key"]), "")
                (folder / item["path"]).write_text(value)

    def until(self, what, holds, process):
        for _ in range(150):
            if holds():
                return
            if process.poll() is not None:
                self.fail(f"{what}; it ended: {process.log.read_text()}")
            time.sleep(0.2)
        self.fail(f"{what}: {process.log.read_text()}")

    def conversation(self, values):
        objects = render(merged(self.values, values))
        port = free_ports()
        media_node = self.start(objects, "media-node")
        gateway = self.start(objects, "gateway", VOICEPING_LISTEN=f"{ADDRESS}:{port}")
        self.until("the gateway is ready", lambda: ask(f"http://{ADDRESS}:{port}/ready") == (200, "ready"), gateway)
        self.assertEqual(ask(f"http://{ADDRESS}:{port}/live")[0], 200)
        self.assertEqual(ask(f"http://{ADDRESS}:{port}/ws")[0], 401, "without a token")
        for process in (gateway, media_node):
            self.until("it says so", lambda: "voiceping_ready 1" in ask(f"{process.admin}/metrics")[1], process)
        for probe in media_node.probes.values():
            self.assertEqual(probe["port"], "admin")
            self.assertEqual(ask(media_node.admin + probe["path"])[0], 200)
        for process in (gateway, media_node):
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(process.grace), 0, process.log.read_text())
        return gateway, media_node

    def test_with_a_secret(self):
        self.conversation({"grpc": {"clusterSecret": {"existingSecret": "cluster"}}})

    def make_certificate(self, name, *arguments):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = ["-keyout", self.folder / "grpc" / f"{name}.key", "-out", self.folder / "grpc" / f"{name}.crt"]
        make = ["openssl", "req", "-x509", "-days", "1", *key, *files, *arguments]
        subprocess.run(make, check=True, capture_output=True)
        return (self.folder / "grpc" / f"{name}.crt").read_text()

    def test_with_certificates(self):
        folder = self.folder / "grpc"
        folder.mkdir()
        old, ours = (self.make_certificate(name, "-subj", f"/CN={name}") for name in ("old", "authority"))
        name = "media-node.voiceping"
        signed = ["-CA", folder / "authority.crt", "-CAkey", folder / "authority.key"]
        extensions = ["-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=critical,CA:FALSE"]
        self.make_certificate("tls", "-subj", f"/CN={name}", *signed, *extensions)
        # While an authority is replaced there are two.
        (folder / "ca.crt").write_text(old + ours)
        self.conversation({"grpc": {"tls": {"existingSecret": "grpc-tls"}}})

    def test_with_all_that_can_be_set(self):
        """Every value is of a form that the processes take."""
        own = {"generateSecrets": False, "grpc": {"clusterSecret": {"existingSecret": "cluster"}}}
        shorter = {"gateway": {"drainSeconds": 5}, "mediaNode": {"drainSeconds": 5}}
        # The collector is away, and nobody minds.
        watched = merged(WATCHED, {"telemetry": {"otlp": {"endpoint": "http://127.0.0.1:1", "headers": {"existingSecret": ""}}}})
        self.conversation(merged(REST, own, TURN, watched, shorter))

    def test_a_process_that_cannot_reach_redis_waits_for_it(self):
        """Sentinels and a Cluster are given in a form that is understood; the tests of the state show that they work."""
        cluster = {"mode": "cluster", "urls": ["redis://127.0.0.1:1", "redis://127.0.0.1:2"]}
        sentinel = {"mode": "sentinel", "master": "voice", "urls": ["redis://127.0.0.1:1", "redis://127.0.0.1:2"]}
        for redis in (cluster, sentinel):
            values = {"redis": redis, "grpc": {"port": free_ports(), "clusterSecret": {"existingSecret": "cluster"}}}
            objects = render(merged(self.values, {"mediaNode": {"port": free_ports(2)}}, values))
            port = free_ports()
            gateway = self.start(objects, "gateway", VOICEPING_LISTEN=f"{ADDRESS}:{port}")
            media_node = self.start(objects, "media-node")
            self.until("it lives", lambda: ask(f"http://{ADDRESS}:{port}/live")[0] == 200, gateway)
            self.until("it says so", lambda: "cannot register" in media_node.log.read_text(), media_node)
            self.assertEqual(ask(f"http://{ADDRESS}:{port}/ready")[0], 503)
            for process in (gateway, media_node):
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(process.grace), 0, process.log.read_text())


if __name__ == "__main__":
    unittest.main()
