"""The values that the chart is rendered with: what an operator can choose, each with each."""

import itertools

import yaml

from chart import CHART, merged

MEDIA = {
    "host-network": {"exposure": "hostNetwork", "announce": "node"},
    "host-port": {"exposure": "hostPort", "announce": "node", "workers": 4, "port": 50000},
    "static": {
        "exposure": "hostNetwork",
        "announce": "static",
        "nodeSelector": {"media": "true"},
        "instances": {
            "a": {"addresses": ["203.0.113.10", "2001:db8::10"], "nodeSelector": {"kubernetes.io/hostname": "a"}},
            "b": {"addresses": ["203.0.113.11"], "nodeSelector": {"kubernetes.io/hostname": "b"}},
        },
    },
    "static-port": {
        "exposure": "hostPort",
        "announce": "static",
        "instances": {"only": {"addresses": ["203.0.113.10"]}},
    },
    "load-balancers": {
        "exposure": "loadBalancerPerPod",
        "announce": "loadBalancer",
        "workers": 1,
        "loadBalancer": {"class": "example.com/lb", "annotations": {"of": "all"}, "sourceRanges": ["198.51.100.0/24"]},
        "instances": {
            "a": {"addresses": ["203.0.113.10"], "serviceAnnotations": {"of": "one"}},
            "b": {"addresses": ["203.0.113.11"]},
        },
        "tcp": {"port": 443},
    },
    "stunner": {"exposure": "stunner", "announce": "pod", "stunner": {"parentRefs": [{"name": "turn", "namespace": "s"}]}},
}

TURN = {"turn": {"urls": ["turn:198.51.100.1:3478?transport=udp"], "existingSecret": "turn"}}
COTURN = {
    "turn": {"urls": ["turn:turn.example:3478?transport=udp", "turns:turn.example:5349?transport=tcp"],
             "existingSecret": "turn", "key": "shared"},
    "coturn": {"enabled": True, "previousSecretKey": "last", "address": "203.0.113.99", "peers": ["203.0.113.10-203.0.113.11"],
               "tls": {"existingSecret": "turn-tls"}},
}

# Everything about telemetry.
WATCHED = {
    "telemetry": {
        "adminPort": 9470,
        "otlp": {"endpoint": "http://otel-collector.monitoring:4317", "headers": {"existingSecret": "otlp"},
                 "resourceAttributes": {"deployment.environment.name": "test"}},
        "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}, "runbooks": "https://wiki.example/operations"},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Voice"}},
    },
    "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}], "otlpTo": [{"namespaceSelector": {}}]},
}
KEDA = {
    "keda": {"serverAddress": "http://prometheus.monitoring:9090", "authenticationRef": {"name": "prometheus"}},
    "gateway": {"autoscaling": {"enabled": True, "engine": "keda", "sockets": 8000, "metrics": [],
                                "triggers": [{"type": "cron", "metadata": {"timezone": "Europe/Berlin"}}]}},
    "mediaNode": {"autoscaling": {"engine": "keda"}},
}

REDIS = {
    "bundled": {"generateSecrets": True, "redis": {"bundled": {"enabled": True}}},
    "standalone": {"redis": {"urls": ["redis://voice@redis:6379/2"], "password": {"existingSecret": "redis"}}},
    "standalone-tls": {"redis": {"urls": ["rediss://redis:6379"], "ca": {"existingConfigMap": "ca", "key": "root"}}},
    "sentinel-tls": {
        "redis": {
            "mode": "sentinel",
            "master": "voice",
            "urls": ["rediss://s0:26379", "rediss://s1:26379"],
            "ca": {"existingSecret": "redis"},
            "password": {"existingSecret": "redis", "key": "other"},
        },
        "networkPolicy": {"redisTo": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "nodeCIDRs": ["10.2.0.0/16"]},
    },
    "cluster": {"redis": {"mode": "cluster", "urls": ["redis://r0:6379", "redis://r1:6379"]}},
}

CALLS = {
    "secret": {"grpc": {"clusterSecret": {"existingSecret": "cluster"}}},
    "tls": {"grpc": {"port": 5051, "tls": {"existingSecret": "grpc-tls", "serverName": "media.example"}}},
    "cert-manager": {"grpc": {"tls": {"certManager": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer"}}}}},
    "both": {"grpc": {"tls": {"existingSecret": "grpc-tls"}, "clusterSecret": {"existingSecret": "cluster"}}},
}

PROVIDERS = [
    {"tokens": {"existingSecret": "tokens"}},
    {"tokens": {"existingSecret": "", "jwks": {"url": "https://id.example:8443/keys", "caSecret": "id"},
                "session": {"existingSecret": "session"}}},
    {"tokens": {"existingSecret": "tokens", "jwks": {"existingConfigMap": "keys"}}},
]

WAYS = {
    "none": {},
    "ingress": {
        "ingress": {"enabled": True, "className": "nginx", "hosts": ["a.example", "b.example"], "tlsSecret": "tls"},
        "networkPolicy": {
            "gatewayFrom": [{"namespaceSelector": {}}],
            "grpcFrom": [{"ipBlock": {"cidr": "10.3.0.0/16"}}],
        },
    },
    "any-host": {"ingress": {"enabled": True, "annotations": {"a": "b"}}},
    "route": {
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "out", "sectionName": "https"}],
            "hostnames": ["a.example"],
        }
    },
    "load-balancer": {
        "gateway": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]},
                    "tls": {"existingSecret": "web"}},
        "networkPolicy": {"enabled": False},
    },
}

# Everything that can be set besides, at once.
REST = {
    "image": {"repository": "registry.example/voiceping", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "commonLabels": {"team": "voice"},
    "region": "east",
    "tokens": {"issuer": "https://id.example", "audience": "voice"},
    "floor": {"talkLimit": "60s", "maxUsers": 1000},
    "gateway": {
        "autoscaling": {"enabled": True, "metrics": [{"type": "Pods", "pods": {
            "metric": {"name": "sockets"}, "target": {"type": "AverageValue", "averageValue": "5k"}}}]},
        "channelAccess": "listed",
        "trustedProxies": ["10.4.0.0/16", "2001:db8::/32"],
        "allowedOrigins": ["https://a.example", "https://b.example:8443"],
        "preStopSeconds": 0,
        "drainSeconds": 90,
        "extraEnv": [{"name": "VOICEPING_SILENCE_LIMIT", "value": "5s"}],
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
    },
    "mediaNode": {"drainSeconds": 300, "extraEnv": [{"name": "VOICEPING_LOG", "value": "debug"}]},
    "priorityClass": {"create": True},
    "serviceAccount": {"create": False, "name": "mine"},
}


def cases():
    """(name, values) of media x redis x calls; the ways from outside take turns, and every third has the rest too."""
    ways = itertools.cycle(WAYS.items())
    for number, ((media, of_media), (redis, of_redis), (calls, of_calls)) in enumerate(
        itertools.product(MEDIA.items(), REDIS.items(), CALLS.items())
    ):
        way, of_way = next(ways)
        # 20 pairs of redis and calls, 5 ways: without a step each pair would always meet the same way.
        if number % 20 == 19:
            next(ways)
        values = merged(PROVIDERS[number % 7 % 3], {"mediaNode": of_media}, of_redis, of_calls, of_way)
        name = f"{media} {redis} {calls} {way}"
        if number % 3 == 0:
            values, name = merged(REST, values), f"{name} rest"
        if media == "stunner":
            values = merged(values, TURN)
        elif number % 4 == 1:
            values, name = merged(values, COTURN), f"{name} coturn"
        if number % 4 < 2:
            values, name = merged(values, WATCHED), f"{name} watched"
        if number % 11 == 0:
            values, name = merged(values, {"ipv6": True, "mediaNode": {"tcp": {"enabled": False}}}), f"{name} ipv6"
        if number % 5 == 0:
            values, name = merged(values, KEDA), f"{name} keda"
        if "instances" not in of_media and number % 2:
            scaling = {"enabled": True, "connections": 2500, "workersBusy": 50}
            values = merged(values, {"mediaNode": {"autoscaling": scaling}})
        yield name, values


def examples():
    for path in sorted((CHART / "examples").glob("*.yaml")):
        yield path.name, yaml.safe_load(path.read_text())
