"""Renders the chart and validates what comes out. Used by the tests here; DEPLOY_TOOLS is the folder of tools.sh."""

import copy
import functools
import json
import os
import pathlib
import re
import subprocess
import tempfile

import jsonschema
import kubernetes_validate.utils as schemas
import referencing
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "helm" / "voiceping"
TOOLS = pathlib.Path(os.environ["DEPLOY_TOOLS"])
HELMS = {"3": TOOLS / "helm" / "3", "4": TOOLS / "helm" / "4"}

# The oldest that the chart says it runs on, one in between, the newest.
KUBERNETES = ["1.30", "1.33", "1.37"]

# Values that are complete, to be changed by the cases.
BASE = {
    "tokens": {"existingSecret": "tokens"},
    "grpc": {"tls": {"existingSecret": "grpc-tls"}},
    "redis": {"urls": ["redis://redis.example:6379"]},
}


def merged(*values):
    """Values laid over each other as Helm does it: maps are merged, everything else is replaced."""
    result = {}
    for layer in values:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


class Refused(Exception):
    """Helm did not render; the text is what it said."""


def helm(version, *arguments, values=None):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values or {}, file)
        file.flush()
        command = [HELMS[version], *arguments, CHART, "--values", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def render(values, version="4", *flags):
    """The objects of a release named voice in the namespace talk, in the order of kind and name."""
    text = helm(version, "template", "voice", "--namespace", "talk", *flags, values=values)
    objects = [each for each in yaml.safe_load_all(text) if each]
    return sorted(objects, key=lambda each: (each["kind"], each["metadata"]["name"]))


def lint(values, version):
    return helm(version, "lint", "--strict", values=values)


def notes(values):
    """What is said after an installation. Helm 3 would not say it without a cluster."""
    said = helm("4", "install", "voice", "--namespace", "talk", "--dry-run=client", values=values)
    return said.partition("NOTES:")[2]


def stunner_wrong(route):
    """STUNner's definitions are in no registry; these are the fields of its reference (docs/GATEWAY.md there)."""
    reference = {"type": "object", "additionalProperties": False, "required": ["name"], "properties": {
        **{key: {"type": "string"} for key in ("group", "kind", "name", "namespace", "sectionName")},
        "port": {"type": "integer"}, "endPort": {"type": "integer"}}}
    rules = {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": False, "properties": {
        "backendRefs": {"type": "array", "minItems": 1, "items": reference}}}}
    spec = {"type": "object", "additionalProperties": False, "required": ["parentRefs", "rules"],
            "properties": {"parentRefs": {"type": "array", "minItems": 1, "items": reference}, "rules": rules}}
    return [f"UDPRoute {route['metadata']['name']}: {error.message}"
            for error in jsonschema.Draft202012Validator(spec).iter_errors(route["spec"])]


def is_builtin(thing):
    group = thing["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and group != "gateway.networking.k8s.io")


@functools.cache
def validator(kubernetes, kind, api_version):
    """Strict: fields that Kubernetes does not know are wrong. A kind without a schema is an error."""
    folder = f"kubernetes-json-schema/v{kubernetes}.0-local-strict"
    api = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = schemas.schema_contents(f"{folder}/{kind.lower()}-{api}.json", kubernetes)
    registry = definitions(folder) @ (referencing.Resource.from_contents(schema) @ referencing.Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def definitions(folder):
    return referencing.Resource.from_contents(schemas.schema_contents(f"{folder}/_definitions.json", ""))


class Validation:
    """Collects objects of many renderings, and looks at each different one once."""

    def __init__(self):
        self.seen = {}

    def add(self, name, objects):
        for each in objects:
            self.seen.setdefault(json.dumps(each, sort_keys=True), name)

    def wrong(self):
        found, others = [], []
        for text, name in self.seen.items():
            each = json.loads(text)
            if (each["apiVersion"], each["kind"]) == ("stunner.l7mp.io/v1", "UDPRoute"):
                found += stunner_wrong(each)
                continue
            if not is_builtin(each):
                others.append(each)
                continue
            for kubernetes in KUBERNETES:
                try:
                    check = validator(kubernetes, each["kind"], each["apiVersion"])
                except FileNotFoundError:
                    found.append(f"{name}: Kubernetes {kubernetes} has no {each['apiVersion']} {each['kind']}")
                    continue
                for error in check.iter_errors(each):
                    where = ".".join(str(part) for part in error.absolute_path)
                    title = f"{each['kind']} {each['metadata']['name']}"
                    found.append(f"{name}: Kubernetes {kubernetes}: {title}: {where}: {error.message}")
        return found + definitions_wrong(others)


def definitions_wrong(objects):
    script = pathlib.Path(__file__).with_name("crds.js").read_text()
    (TOOLS / "node" / "crds.js").write_text(script)
    done = subprocess.run(
        ["node", "crds.js"], cwd=TOOLS / "node", input=json.dumps(objects), capture_output=True, text=True
    )
    if done.returncode:
        return [done.stderr]
    return json.loads(done.stdout)


@functools.cache
def known_variables():
    """The environment variables that the code reads, found where it says so."""
    paths = [path for path in REPOSITORY.glob("**/*.rs") if path.relative_to(REPOSITORY).parts[0] != "target"]
    text = "".join(path.read_text() for path in paths)
    return set(re.findall(r'env = "(VOICEPING_[A-Z_]+)"', text))


def workloads(objects):
    return [each for each in objects if each["kind"] in ("Deployment", "StatefulSet")]


def of_kind(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def pods(objects):
    """Every pod of a rendering: (name, labels, spec)."""
    for each in workloads(objects):
        template = each["spec"]["template"]
        yield each["metadata"]["name"], template["metadata"]["labels"], template["spec"]
    for each in of_kind(objects, "Pod"):
        yield each["metadata"]["name"], each["metadata"]["labels"], each["spec"]


def environment(container):
    return {each["name"]: each for each in container.get("env", [])}


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]
