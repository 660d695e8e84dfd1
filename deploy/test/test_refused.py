"""What cannot work is refused before it is installed, with a reason and a way out."""

import unittest

from chart import BASE, HELMS, Refused, merged, render

TWO = {
    "a": {"addresses": ["203.0.113.10"], "nodeSelector": {"host": "a"}},
    "b": {"addresses": ["203.0.113.11"], "nodeSelector": {"host": "b"}},
}
TURN = {"turn": {"urls": ["turn:turn.example:3478?transport=udp"], "existingSecret": "turn"}}
GATEWAY = {"parentRefs": [{"name": "turn"}]}
BUNDLED = {"bundled": {"enabled": True}, "urls": [], "password": {"existingSecret": "redis"}}

# Changes of values that are complete, and a part of what is said to them.
COMBINATIONS = [
    ({"mediaNode": {"exposure": "loadBalancerPerPod"}}, "an address where no load balancer listens"),
    ({"mediaNode": {"exposure": "loadBalancerPerPod", "announce": "static", "instances": TWO}},
     "Set mediaNode.announce=loadBalancer"),
    ({"mediaNode": {"announce": "loadBalancer", "instances": TWO}}, "no load balancer in front"),
    ({"mediaNode": {"exposure": "hostPort", "announce": "loadBalancer", "instances": TWO}}, "exposure=hostPort"),
    ({"mediaNode": {"announce": "static"}}, "List one instance for each pod"),
    ({"mediaNode": {"exposure": "loadBalancerPerPod", "announce": "loadBalancer"}}, "List one instance for each pod"),
    ({"mediaNode": {"instances": TWO}}, "mediaNode.instances with announce=node"),
    ({"mediaNode": {"announce": "static", "instances": TWO, "autoscaling": {"enabled": True}}}, "adding instances"),
    ({"mediaNode": {"announce": "static", "instances": merged(TWO, {"b": {"addresses": ["203.0.113.10"]}})}},
     "a and b both have the address 203.0.113.10"),
    ({"mediaNode": {"announce": "static", "instances": merged(TWO, {"b": {"addresses": ["0.0.0.0"]}})}},
     "clients cannot send to 0.0.0.0"),
    ({"mediaNode": {"announce": "static", "instances": {**TWO, "c": {"addresses": ["203.0.113.12"]}}}},
     "instances.c has no nodeSelector"),
    ({"mediaNode": {"announce": "pod"}}, "Set mediaNode.announce=node or static"),
    ({**TURN, "mediaNode": {"exposure": "stunner", "stunner": GATEWAY}}, "Set mediaNode.announce=pod"),
    ({**TURN, "mediaNode": {"exposure": "stunner", "announce": "pod"}}, "a route belongs to a Gateway"),
    ({**TURN, "mediaNode": {"exposure": "stunner", "announce": "pod", "stunner": GATEWAY, "instances": TWO}},
     "pods are alike there"),
    ({"mediaNode": {"exposure": "stunner", "announce": "pod", "stunner": GATEWAY}}, "exposure=stunner without turn.urls"),
    ({"turn": {"urls": ["turn:a:3478"]}}, "turn.urls without turn.existingSecret"),
    ({"coturn": {"enabled": True, "peers": ["203.0.113.10"]}}, "clients must be told of it"),
    ({**TURN, "coturn": {"enabled": True}}, "it would relay to nobody"),
    ({**TURN, "coturn": {"enabled": True, "peers": ["203.0.113.10"], "relayPorts": {"first": 39000, "last": 40000}}},
     "overlap"),
    ({**TURN, "coturn": {"enabled": True, "peers": ["203.0.113.10"], "relayPorts": {"first": 51000}}}, "more than last"),
    ({"turn": {"urls": ["turns:a:5349"], "existingSecret": "turn"}, "coturn": {"enabled": True, "peers": ["203.0.113.10"]}},
     "needs a certificate"),
    ({"gateway": {"autoscaling": {"enabled": True, "engine": "keda", "sockets": 8000}}}, "KEDA asks Prometheus"),
    ({"gateway": {"autoscaling": {"enabled": True, "triggers": [{"type": "cron"}]}}}, "only KEDA has triggers"),
    ({"gateway": {"autoscaling": {"enabled": True, "engine": "keda", "metrics": [{"type": "Pods"}]}}}, "write triggers"),
    ({"mediaNode": {"port": 65535}}, "no UDP ports above 65535"),
    ({"mediaNode": {"autoscaling": {"enabled": True}, "resources": {"requests": None}}}, "resources.requests.cpu"),
    ({"gateway": {"autoscaling": {"enabled": True, "cpuUtilization": None}}}, "nothing to scale by"),
    ({"gateway": {"autoscaling": {"enabled": True, "minReplicas": 11}}}, "more than maxReplicas"),
    ({"tokens": {"existingSecret": ""}}, "kubectl create secret"),
    ({"tokens": {"jwks": {"url": "https://a", "existingConfigMap": "b"}}}, "set one of them"),
    ({"tokens": {"jwks": {"existingConfigMap": "b", "caSecret": "c"}}}, "a file needs no authority"),
    ({"tokens": {"existingSecret": "", "jwks": {"url": "https://a"}}}, "come back to their sessions"),
    ({"tokens": {"existingSecret": "", "jwks": {"url": "https://a"}, "session": {"existingSecret": "b"}, "devSignIn": True}},
     "nothing to sign with"),
    ({"mediaNode": {"tcp": {"port": 50051}}}, "also the port for calls"),
    ({"mediaNode": {"tcp": {"port": 443}}}, "without the right to ports below 1024"),
    ({"grpc": {"tls": {"existingSecret": ""}}}, "must know each other"),
    ({"grpc": {"tls": {"certManager": {"issuerRef": {"name": "ca"}}}}}, "set one of them"),
    ({"redis": {"urls": []}}, "redis.urls is empty"),
    ({"redis": {"bundled": {"enabled": True}}}, "redis.bundled.enabled with redis.urls"),
    ({"redis": {**BUNDLED, "password": {}}}, "redis.bundled has no password"),
    ({"redis": {**BUNDLED, "mode": "cluster"}}, "a single server"),
    ({"redis": {"mode": "sentinel"}}, "without redis.master"),
    ({"redis": {"master": "voice"}}, "only Sentinels"),
    ({"redis": {"urls": ["redis://a:1", "redis://b:1"]}}, "redis.mode=sentinel or cluster"),
    ({"redis": {"urls": ["redis://user:password@a:1"]}}, "put it into a Secret"),
    ({"redis": {"mode": "cluster", "urls": ["redis://a:1", "rediss://b:1"]}}, "mixes redis:// and rediss://"),
    ({"redis": {"ca": {"existingSecret": "ca"}}}, "redis.ca without TLS"),
    ({"redis": {"urls": ["rediss://a:1"], "ca": {"existingSecret": "a", "existingConfigMap": "b"}}}, "set one of them"),
    ({"gateway": {"tls": {"existingSecret": "web"}}, "ingress": {"enabled": True}}, "these end TLS themselves"),
    ({"httpRoute": {"enabled": True}}, "a route belongs to a Gateway"),
    ({"ingress": {"enabled": True, "tlsSecret": "tls"}}, "a certificate is for names"),
]

# What the schema refuses: the place that is named.
VALUES = [
    ({"mediaNode": {"exposure": "nodePort"}}, "exposure"),
    ({"mediaNode": {"workers": 0}}, "workers"),
    ({"mediaNode": {"port": 70000}}, "port"),
    ({"mediaNode": {"announce": "static", "instances": {"a": {"addresses": ["voice.example"]}}}}, "addresses"),
    ({"mediaNode": {"announce": "static", "instances": {"A_1": {"addresses": ["203.0.113.10"]}}}}, "A_1"),
    ({"mediaNode": {"drainSeconds": "1m"}}, "drainSeconds"),
    ({"floor": {"lease": "15"}}, "lease"),
    ({"redis": {"urls": ["redis.example:6379"]}}, "urls"),
    ({"redis": {"mode": "ring"}}, "mode"),
    ({"tokens": {"jwks": {"url": "http://id.example/keys"}}}, "url"),
    ({"turn": {"urls": ["turn.example:3478"]}}, "urls"),
    ({"coturn": {"peers": ["10.0.0.0/8"]}}, "peers"),
    ({"gateway": {"autoscaling": {"engine": "none"}}}, "engine"),
    ({"telemetry": {"otlp": {"endpoint": "collector:4317"}}}, "endpoint"),
    ({"gateway": {"replica": 3}}, "replica"),
    ({"medianode": {}}, "medianode"),
]


class Refusals(unittest.TestCase):
    def said(self, values, version, *flags):
        with self.assertRaises(Refused) as refused:
            render(merged(BASE, values), version, *flags)
        return " ".join(str(refused.exception).split())

    def test_the_values_that_are_changed_are_complete(self):
        for version in HELMS:
            render(BASE, version)

    def test_combinations(self):
        for values, reason in COMBINATIONS:
            for version in HELMS:
                with self.subTest(reason, helm=version, values=values):
                    self.assertIn(reason, self.said(values, version))

    def test_values(self):
        for values, place in VALUES:
            for version in HELMS:
                with self.subTest(place, helm=version, values=values):
                    said = self.said(values, version)
                    self.assertIn("values don't meet the specifications of the schema", said)
                    self.assertIn(place, said)

    def test_all_that_is_wrong_is_said_at_once(self):
        said = self.said({"tokens": {"existingSecret": ""}, "redis": {"urls": []}}, "4")
        self.assertIn("tokens.existingSecret", said)
        self.assertIn("redis.urls", said)

    def test_a_kubernetes_that_is_too_old(self):
        for version in HELMS:
            said = self.said({}, version, "--kube-version", "1.29.0")
            self.assertIn("incompatible with Kubernetes v1.29.0", said)


if __name__ == "__main__":
    unittest.main()
