"""The compose file, the Dockerfile and the proxy's configuration say what their tools and the code understand."""

import ipaddress
import json
import os
import pathlib
import re
import subprocess
import unittest

import yaml

from chart import REPOSITORY, TOOLS, known_variables, seconds
from watch import PROMTOOL, dashboards, flat

BIN = TOOLS / "python" / "bin"


def run(*command, **variables):
    variables = {key: value for key, value in os.environ.items() if not key.startswith("VOICEPING_")} | variables
    return subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True)


def config(**variables):
    done = run(BIN / "docker-compose", "config", "--format", "json", **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def services(**variables):
    return config(**variables)["services"]


class Compose(unittest.TestCase):
    def test_there_are_two_gateways_and_two_media_nodes(self):
        all_of_them = services()
        self.assertEqual(all_of_them["gateway"]["deploy"]["replicas"], 2)
        self.assertNotIn("ports", all_of_them["gateway"], "a port of the host can be given to one container only")
        self.assertNotIn("container_name", all_of_them["gateway"])
        media_nodes = [name for name in all_of_them if name.startswith("media-node")]
        self.assertEqual(media_nodes, ["media-node-a", "media-node-b"])

    def test_media_nodes_publish_the_ports_that_they_announce(self):
        published = []
        for name, service in services(VOICEPING_HOST="192.0.2.7").items():
            if not name.startswith("media-node"):
                continue
            variables = service["environment"]
            address, _, port = variables["VOICEPING_MEDIA_LISTEN"].rpartition(":")
            self.assertEqual(service["networks"]["default"]["ipv4_address"], address)
            self.assertEqual(variables["VOICEPING_MEDIA_ANNOUNCE"], "192.0.2.7")
            wanted = [int(port) + worker for worker in range(int(variables["VOICEPING_MEDIA_WORKERS"]))]
            ports = {each["protocol"]: [] for each in service["ports"]}
            for each in service["ports"]:
                self.assertEqual(each["published"], str(each["target"]))
                self.assertEqual(each["host_ip"], "192.0.2.7")
                ports[each["protocol"]].append(each["target"])
            # Over TCP all workers are behind one port, of the first one's number.
            self.assertEqual(ports, {"udp": wanted, "tcp": wanted[:1]})
            published += wanted
        self.assertEqual(len(published), len(set(published)))

    def test_addresses_that_are_given_out_are_none_that_is_taken(self):
        network = config()["networks"]["default"]["ipam"]["config"][0]
        subnet, given_out = (ipaddress.ip_network(network[key]) for key in ("subnet", "ip_range"))
        self.assertTrue(given_out.subnet_of(subnet))
        self.assertNotIn(subnet.broadcast_address, given_out, "Podman gives it to a container")
        for name, service in services().items():
            fixed = (service.get("networks", {}).get("default") or {}).get("ipv4_address")
            self.assertFalse(fixed and ipaddress.ip_address(fixed) in given_out, name)

    def test_nothing_is_reachable_from_elsewhere_while_the_secrets_are_known_to_everybody(self):
        for service in services().values():
            for port in service.get("ports", []):
                self.assertEqual(port["host_ip"], "127.0.0.1")

    def test_every_variable_is_one_that_the_code_reads(self):
        for name, service in services().items():
            if name != "proxy":
                ours = {each for each in service.get("environment", {}) if each.startswith("VOICEPING_")}
                self.assertLessEqual(ours, known_variables(), name)

    def test_a_container_is_given_more_time_than_its_drain_takes(self):
        for service in services().values():
            drain = service.get("environment", {}).get("VOICEPING_DRAIN_DEADLINE")
            if drain:
                self.assertGreaterEqual(seconds(service["stop_grace_period"]), seconds(drain) + 5)

    def test_containers_of_ours_are_restricted(self):
        for name, service in services().items():
            if name.startswith(("gateway", "media-node")):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])

    def test_the_proxy_understands_its_file(self):
        for host in ["localhost", "192.0.2.7"]:
            path = "deploy/compose/Caddyfile"
            done = run(BIN / "caddy", "validate", "--adapter", "caddyfile", "--config", path, VOICEPING_HOST=host)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(run(BIN / "caddy", "fmt", path).stdout, (REPOSITORY / path).read_text())


    def test_clients_are_told_of_the_turn_server_that_is_there(self):
        for host in ["127.0.0.1", "192.0.2.7"]:
            all_of_them = services(VOICEPING_HOST=host) if host != "127.0.0.1" else services()
            urls = all_of_them["gateway"]["environment"]["VOICEPING_TURN_URLS"].split(",")
            conf = dict(line.partition("=")[::2] for line in CONF.read_text().splitlines() if not line.startswith("#"))
            self.assertEqual(urls, [f"turn:{host}:{conf['listening-port']}?transport={each}" for each in ("udp", "tcp")])
            coturn = dict(each.partition("=")[::2] for each in all_of_them["coturn"]["command"])
            for flag in ("--listening-ip", "--relay-ip", "--allowed-peer-ip"):
                self.assertEqual(coturn[flag], host)
            for name in ("media-node-a", "media-node-b"):
                self.assertEqual(all_of_them[name]["environment"]["VOICEPING_MEDIA_ANNOUNCE"], host)
            secret = all_of_them["gateway"]["environment"]["VOICEPING_TURN_SECRET"]
            self.assertEqual(coturn["--static-auth-secret"], secret)


CONF = REPOSITORY / "deploy" / "compose" / "turnserver.conf"


class Watching(unittest.TestCase):
    """What watches the cluster finds it, and what it finds has the names that the alerts and the dashboards go by."""

    def read(self, name):
        return yaml.safe_load((REPOSITORY / "deploy" / "compose" / name).read_text())

    def test_prometheus_understands_its_file(self):
        done = run(PROMTOOL, "check", "config", "--syntax-only", "deploy/compose/prometheus.yaml")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        mounted = {each["target"] for each in services()["prometheus"]["configs"]}
        self.assertLessEqual(set(self.read("prometheus.yaml")["rule_files"]), mounted)

    def test_prometheus_asks_every_process(self):
        asked = {}
        for job in self.read("prometheus.yaml")["scrape_configs"]:
            labels = {each["target_label"]: each["replacement"] for each in job["relabel_configs"]}
            self.assertEqual(labels["job"], "voiceping")
            for found in job["dns_sd_configs"]:
                for name in found["names"]:
                    asked[name] = (labels["role"], found["port"])
        wanted = {}
        for name, service in services().items():
            listen = service.get("environment", {}).get("VOICEPING_ADMIN_LISTEN")
            if listen:
                wanted[name] = (service["command"][0], int(listen.rpartition(":")[2]))
        self.assertEqual(asked, wanted)

    def test_grafana_has_the_dashboards_and_what_they_ask(self):
        service = services()["grafana"]
        folder = self.read("grafana/dashboards.yaml")["providers"][0]["options"]["path"]
        mounted = {each["target"]: pathlib.Path(each["source"]) for each in service["volumes"]}
        home = pathlib.Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
        self.assertEqual(str(home.parent), folder)
        self.assertTrue((mounted[folder] / home.name).is_file())
        sources = self.read("grafana/datasources.yaml")["datasources"]
        for source in sources:
            self.assertIn(source["url"].split("/")[2].partition(":")[0], services())
        types = {target["datasource"]["type"] for board in dashboards().values() for panel in flat(board["panels"])
                 for target in panel.get("targets", [])}
        self.assertEqual(types, {source["type"] for source in sources})

    def test_the_collector_has_what_its_pipelines_name(self):
        config = self.read("otel-collector.yaml")
        for name, pipeline in config["service"]["pipelines"].items():
            for kind, named in pipeline.items():
                self.assertLessEqual(set(named), config[kind].keys(), name)
        listening = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
        told = services()["gateway"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        self.assertEqual(told, f"http://otel-collector:{listening}")


class Image(unittest.TestCase):
    def test_hadolint_is_content(self):
        done = run(BIN / "hadolint", "Dockerfile")
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_every_variable_is_one_that_the_code_reads(self):
        used = set(re.findall(r"\b(VOICEPING_[A-Z_]+)=", (REPOSITORY / "Dockerfile").read_text()))
        self.assertTrue(used)
        self.assertLessEqual(used, known_variables())

    def test_all_crates_are_in_the_context(self):
        listed = (REPOSITORY / ".dockerignore").read_text().splitlines()
        members = re.search(r"^members = \[(.*?)\]", (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE | re.DOTALL)
        for member in re.findall(r'"([^"]+)"', members[1]):
            self.assertIn("!" + member.split("/")[0], listed)


if __name__ == "__main__":
    unittest.main()
