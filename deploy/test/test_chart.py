"""The chart renders into what Kubernetes accepts, and into what works together."""

import functools
import json
import os
import re
import unittest
from concurrent.futures import ThreadPoolExecutor

import yaml

from chart import (BASE, CHART, HELMS, REPOSITORY, Validation, environment, known_variables, lint, merged, notes,
                   of_kind, pods, render, seconds, workloads)
from matrix import cases, examples
from watch import ALERTS, dashboards, documented, metrics_in

CASES = [*examples(), *cases()]


def rendered(version="4"):
    """What comes out of each case. Helm is a process of its own: as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda case: render(case[1], version), CASES))


RENDERED = [(name, values, objects) for (name, values), objects in zip(CASES, rendered())]


METRICS = "voice-voiceping-metrics"


def any_six(values):
    instances = values.get("mediaNode", {}).get("instances", {}).values()
    return any(":" in address for instance in instances for address in instance["addresses"])


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def every_case(test):
    """Calls a test with the values and the objects of each case."""
    @functools.wraps(test)
    def of_all(self):
        for name, values, objects in RENDERED:
            with self.subTest(name):
                test(self, values, objects)
    return of_all


class Rendering(unittest.TestCase):
    def test_both_helms_make_the_same(self):
        for (name, values, objects), of_three in zip(RENDERED, rendered("3")):
            if values.get("generateSecrets"):
                continue  # random
            with self.subTest(name):
                self.assertEqual(of_three, objects)

    def test_lint_is_content(self):
        for name, values in [("defaults", BASE), *examples()]:
            for version in HELMS:
                with self.subTest(name, helm=version):
                    lint(values, version)

    def test_kubernetes_and_the_definitions_know_every_field(self):
        validation = Validation()
        for name, _, objects in RENDERED:
            validation.add(name, objects)
        self.assertEqual(validation.wrong(), [])

    def test_a_kind_or_a_field_that_is_unknown_is_found(self):
        validation = Validation()
        route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "a"}}
        for bad in [
            {"apiVersion": "v1", "kind": "Sevice", "metadata": {"name": "a"}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"prots": []}},
            {"apiVersion": "example.com/v1", "kind": "Service", "metadata": {"name": "a"}},
            {**route, "spec": {"parentRefs": [{"name": "a", "sectoin": "b"}]}},
            {**route, "spec": {"rules": [{"timeouts": {"request": "soon"}}]}},
        ]:
            validation.add("bad", [bad])
        self.assertEqual(len(validation.wrong()), 5 + 2 * 2, "two are asked of three versions")

    @every_case
    def test_every_variable_is_one_that_the_code_reads(self, values, objects):
        known = known_variables()
        for name, _, spec in pods(objects):
            for container in spec["containers"]:
                used = {each for each in environment(container) if each.startswith("VOICEPING_")}
                self.assertLessEqual(used, known, name)

    @every_case
    def test_pods_are_restricted(self, values, objects):
        """The restricted profile of the Pod Security Standards, but for the network of media nodes."""
        for name, _, spec in pods(objects):
            of_media, of_turn = "-media-node" in name, name.endswith("-coturn")
            exposure = values.get("mediaNode", {}).get("exposure", "hostNetwork")
            self.assertEqual(spec.get("hostNetwork", False), of_turn or (of_media and exposure == "hostNetwork"), name)
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertIs(spec["automountServiceAccountToken"], False)
            self.assertIs(spec["enableServiceLinks"], False)
            for volume in spec.get("volumes", []):
                self.assertLessEqual(volume.keys() - {"name"}, {"secret", "configMap", "emptyDir"})
            for container in spec["containers"]:
                security = container["securityContext"]
                self.assertIs(security["runAsNonRoot"], True)
                self.assertIs(security["readOnlyRootFilesystem"], True)
                self.assertIs(security["allowPrivilegeEscalation"], False)
                added = {"add": ["NET_BIND_SERVICE"]} if of_turn else {}
                self.assertEqual(security["capabilities"], {"drop": ["ALL"], **added})
                self.assertNotIn("privileged", security)
                self.assertIn("requests", container["resources"])
                for port in container.get("ports", []):
                    media = of_media and port["name"].startswith("media-")
                    self.assertEqual("hostPort" in port, media and exposure == "hostPort")

    @every_case
    def test_no_secret_is_written_out(self, values, objects):
        for name, _, spec in pods(objects):
            for container in spec["containers"]:
                for variable in container.get("env", []):
                    if re.search(r"(SECRET|PASSWORD|AUTH|HEADERS)$", variable["name"]):
                        self.assertIn("secretKeyRef", variable.get("valueFrom", {}), name)

    @every_case
    def test_a_pod_is_given_more_time_than_its_drain_takes(self, values, objects):
        for name, _, spec in pods(objects):
            container = spec["containers"][0]
            drain = environment(container).get("VOICEPING_DRAIN_DEADLINE")
            if drain:
                pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                least = pause + seconds(drain["value"]) + 5
                self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], least, name)

    @every_case
    def test_selectors_find_their_pods_and_no_others(self, values, objects):
        labels = {name: labels for name, labels, _ in pods(objects)}
        for each in workloads(objects):
            selector = each["spec"]["selector"]["matchLabels"]
            found = [name for name in labels if selects(selector, labels[name])]
            self.assertEqual(found, [each["metadata"]["name"]])
        for each in of_kind(objects, "Service"):
            found = [name for name in labels if selects(each["spec"]["selector"], labels[name])]
            if each["metadata"]["name"] == METRICS:
                self.assertEqual(found, [name for name in labels if "-gateway" in name or "-media-node" in name])
            else:
                self.assertEqual(found, [each["metadata"]["name"]])
        for each in of_kind(objects, "PodDisruptionBudget") + of_kind(objects, "NetworkPolicy"):
            selector = each["spec"].get("selector") or each["spec"].get("podSelector")
            found = [name for name in labels if selects(selector["matchLabels"], labels[name])]
            self.assertTrue(found and all(name.startswith(each["metadata"]["name"]) for name in found), found)
        for each in of_kind(objects, "HorizontalPodAutoscaler") + of_kind(objects, "ScaledObject"):
            target = next(found for found in workloads(objects)
                          if found["metadata"]["name"] == each["spec"]["scaleTargetRef"]["name"])
            self.assertEqual(target["kind"], each["spec"]["scaleTargetRef"]["kind"])
            self.assertNotIn("replicas", target["spec"], "the autoscaler's number would be undone by each upgrade")

    @every_case
    def test_ports_are_those_that_are_listened_on(self, values, objects):
        containers = {name: spec["containers"][0] for name, _, spec in pods(objects)}
        for name, container in containers.items():
            variables = {key: each.get("value") for key, each in environment(container).items()}
            if "VOICEPING_MEDIA_LISTEN" not in variables:
                continue
            listen, _, first = variables["VOICEPING_MEDIA_LISTEN"].rpartition(":")
            first = int(first)
            self.assertEqual(listen, "[::]" if values.get("ipv6") or any_six(values) else "0.0.0.0")
            wanted = [first + worker for worker in range(int(variables["VOICEPING_MEDIA_WORKERS"]))]
            udp = [port["containerPort"] for port in container["ports"] if port["protocol"] == "UDP"]
            self.assertEqual(udp, wanted)
            tcp = {port["name"]: port["containerPort"] for port in container["ports"] if port["protocol"] == "TCP"}
            own = "[$(POD_IP)]" if values.get("ipv6") else "$(POD_IP)"
            self.assertEqual(variables["VOICEPING_GRPC_LISTEN"], f"{own}:{tcp['grpc']}")
            self.assertEqual(variables["VOICEPING_MEDIA_TCP_PORT"], str(tcp.get("media-tcp", "off")))
        for service in of_kind(objects, "Service"):
            if service["metadata"]["name"] == METRICS:
                continue
            ports = {port["name"]: port for port in containers[service["metadata"]["name"]]["ports"]}
            for port in service["spec"]["ports"]:
                self.assertEqual(ports[port["targetPort"]]["protocol"], port["protocol"])
                if port["name"].startswith("media-"):
                    self.assertEqual(ports[port["targetPort"]]["containerPort"], port["port"], "clients were told it")

    @every_case
    def test_every_media_node_announces_what_is_its_own(self, values, objects):
        instances = values.get("mediaNode", {}).get("instances", {})
        announced = {}
        for name, _, spec in pods(objects):
            variable = environment(spec["containers"][0]).get("VOICEPING_MEDIA_ANNOUNCE")
            if variable:
                announced[name] = variable.get("value", variable.get("valueFrom"))
        if instances:
            wanted = {f"voice-voiceping-media-node-{name}": ",".join(each["addresses"])
                      for name, each in instances.items()}
        else:
            of_pod = values.get("mediaNode", {}).get("announce") == "pod"
            path = "status.podIP" if of_pod else "status.hostIP"
            wanted = {"voice-voiceping-media-node": {"fieldRef": {"fieldPath": path}}}
        self.assertEqual(announced, wanted)
        for service in of_kind(objects, "Service"):
            if "loadBalancerIP" in service["spec"]:
                self.assertEqual(service["spec"]["loadBalancerIP"], announced[service["metadata"]["name"]])

    @every_case
    def test_probes_ask_where_something_answers(self, values, objects):
        for name, _, spec in pods(objects):
            for container in spec["containers"]:
                ports = {port["name"]: port for port in container.get("ports", [])}
                for probe in ("livenessProbe", "readinessProbe"):
                    asked = container.get(probe, {}).get("httpGet") or container.get(probe, {}).get("tcpSocket")
                    if asked:
                        self.assertEqual(ports[asked["port"]]["protocol"], "TCP", name)

    @every_case
    def test_prometheus_reads_every_process(self, values, objects):
        port = values.get("telemetry", {}).get("adminPort", 9464)
        for name, _, spec in pods(objects):
            if "-gateway" in name or "-media-node" in name:
                container = spec["containers"][0]
                own = "[$(POD_IP)]" if values.get("ipv6") else "$(POD_IP)"
                self.assertEqual(environment(container)["VOICEPING_ADMIN_LISTEN"]["value"], f"{own}:{port}")
                self.assertIn({"name": "admin", "containerPort": port, "protocol": "TCP"}, container["ports"])
        service = next(each for each in of_kind(objects, "Service") if each["metadata"]["name"] == METRICS)
        self.assertTrue(service["spec"]["publishNotReadyAddresses"], "a process that drains is worth looking at")
        for monitor in of_kind(objects, "ServiceMonitor"):
            wanted = monitor["spec"]["selector"]["matchLabels"]
            found = [each for each in of_kind(objects, "Service") if selects(wanted, each["metadata"]["labels"])]
            self.assertEqual(found, [service])
            named = {each["targetLabel"] for each in monitor["spec"]["endpoints"][0]["relabelings"]}
            self.assertEqual(named, {"job", "role", "instance"}, "what the alerts and the dashboards go by")

    @every_case
    def test_the_alerts_and_the_dashboards_are_those_of_the_repository(self, values, objects):
        wanted = values.get("telemetry", {})
        rules = of_kind(objects, "PrometheusRule")
        self.assertEqual(len(rules), int(wanted.get("rules", {}).get("enabled", False)))
        for each in rules:
            base = wanted["rules"]["runbooks"]
            text = ALERTS.read_text().replace("docs/operations.md", base)
            self.assertEqual(each["spec"], yaml.safe_load(text))
            self.assertIn(f"{base}#voiceping", text)
        boards = [each for each in of_kind(objects, "ConfigMap") if "-dashboard-" in each["metadata"]["name"]]
        self.assertEqual(len(boards), len(dashboards()) if wanted.get("dashboards", {}).get("enabled") else 0)
        for each in boards:
            (name, text), = each["data"].items()
            self.assertEqual(json.loads(text), dashboards()[name.removeprefix("voiceping-").removesuffix(".json")])

    @every_case
    def test_autoscalers_go_by_metrics_that_there_are(self, values, objects):
        for each in of_kind(objects, "ScaledObject"):
            for trigger in each["spec"]["triggers"]:
                if trigger["type"] == "prometheus":
                    query = trigger["metadata"]["query"]
                    self.assertLessEqual(metrics_in(query), documented())
                    self.assertIn(f'namespace="talk",service="{METRICS}"', query)
        adapted = (REPOSITORY / "docs" / "deployment.md").read_text()
        for each in of_kind(objects, "HorizontalPodAutoscaler"):
            for metric in each["spec"]["metrics"]:
                name = metric.get("pods", {}).get("metric", {}).get("name", "")
                if name.startswith("voiceping"):
                    self.assertIn(name, adapted, "the adapter's rules are written down")

    @every_case
    def test_gateways_may_call_whom_they_have_to(self, values, objects):
        for policy in of_kind(objects, "NetworkPolicy"):
            if policy["metadata"]["name"].endswith("-gateway"):
                ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
                wanted = {53, values.get("grpc", {}).get("port", 50051)}
                if values.get("telemetry", {}).get("otlp", {}).get("endpoint"):
                    wanted.add(4317)
                if values.get("tokens", {}).get("jwks", {}).get("url"):
                    wanted.add(8443)
                self.assertLessEqual(wanted, ports)

    @every_case
    def test_coturn_relays_to_media_nodes_only(self, values, objects):
        for each in of_kind(objects, "ConfigMap"):
            lines = each["data"].get("turnserver.conf", "").splitlines()
            if not lines:
                continue
            allowed = {line.partition("=")[2] for line in lines if line.startswith("allowed-peer-ip=")}
            instances = values.get("mediaNode", {}).get("instances", {})
            known = {address for instance in instances.values() for address in instance["addresses"]}
            self.assertEqual(allowed, known | set(values["coturn"].get("peers", [])))
            for line in ("use-auth-secret", "denied-peer-ip=0.0.0.0-255.255.255.255", "no-cli", "no-multicast-peers"):
                self.assertIn(line, lines)
            self.assertFalse([line for line in lines if "secret=" in line])

    @every_case
    def test_a_new_chart_alone_restarts_nothing(self, values, objects):
        for each in workloads(objects):
            labels = each["spec"]["template"]["metadata"]["labels"]
            self.assertFalse({"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys())

    @every_case
    def test_volumes_are_mounted_where_the_variables_say(self, values, objects):
        for name, _, spec in pods(objects):
            container = spec["containers"][0]
            mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
            self.assertEqual(mounts.keys(), {volume["name"] for volume in spec.get("volumes", [])}, name)
            for key, variable in environment(container).items():
                path = variable.get("value", "")
                if path.startswith("/etc/"):
                    self.assertIn(path.rpartition("/")[0], mounts.values(), key)

    def test_the_notes_name_the_ports_to_open(self):
        for name, values in examples():
            with self.subTest(name):
                said = notes(values)
                workers = values["mediaNode"].get("workers", 2)
                self.assertIn(f"UDP 40000-{40000 + workers - 1}  from clients", said)
                self.assertIn("TCP 50051  from gateways and media nodes", said)
                self.assertIn("TCP 9464  from Prometheus", said)
                self.assertEqual("UDP 3478" in said, name == "bare-metal.yaml")
                for instance in values["mediaNode"].get("instances", {}).values():
                    self.assertIn(instance["addresses"][0], said)
                self.assertEqual("Not for production" in said, name == "single-node.yaml")
        ingress = {"ingress": {"enabled": True}}
        self.assertIn("gateway.trustedProxies is empty", notes(merged(BASE, ingress)))
        self.assertNotIn("trustedProxies", notes(merged(BASE, ingress, {"gateway": {"trustedProxies": ["10.0.0.0/8"]}})))
        self.assertIn("UDP 40000  from clients", notes(merged(BASE, {"mediaNode": {"workers": 1}})))

    def test_the_chart_is_of_this_version(self):
        version = re.search(r'^version = "(.+)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertIn(f"appVersion: {version}\n", (CHART / "Chart.yaml").read_text())

    def test_documented_values_are_in_the_schema(self):
        schema = (CHART / "values.schema.json").read_text()
        for key in re.findall(r"^\s*([a-zA-Z]+):", (CHART / "values.yaml").read_text(), re.MULTILINE):
            if key not in ("type", "cpu", "memory", "requests", "limits", "scaleDown", "policies", "request",
                           "stabilizationWindowSeconds", "name"):
                self.assertIn(f'"{key}"', schema)


if __name__ == "__main__":
    unittest.main()
