// Validates objects of kinds that are not Kubernetes' own. Reads a JSON list of them from standard input and prints a JSON
// list of what is wrong. Called by chart.py, in a folder with the packages of package.json.
//
// Values are checked by the schemas of the definitions. Those let unknown fields pass, so the objects are also given to the
// TypeScript compiler as literals of the packages' types, which know no others.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";

const MODULES = {
  "cert-manager.io/v1 Certificate": "@kubernetes-models/cert-manager/cert-manager.io/v1",
  "keda.sh/v1alpha1 ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1",
  "monitoring.coreos.com/v1 PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
  "monitoring.coreos.com/v1 ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
  "gateway.networking.k8s.io/v1 HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1",
};

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const objects = JSON.parse(Buffer.concat(chunks).toString());

const wrong = [];
const literals = [];
for (const object of objects) {
  const kind = `${object.apiVersion} ${object.kind}`;
  const name = `${kind} ${object.metadata?.name}`;
  const module = MODULES[kind];
  if (!module) {
    wrong.push(`${name}: a kind without a schema here`);
    continue;
  }
  try {
    const Model = (await import(module))[object.kind];
    new Model(object).validate();
  } catch (error) {
    wrong.push(`${name}: ${error.message}`);
  }
  literals.push(`const _${literals.length}: import("${module}").I${object.kind} = ${JSON.stringify(object)};`);
}

writeFileSync("literals.ts", `${literals.join("\n")}\nexport {};\n`);
try {
  const flags = ["--noEmit", "--skipLibCheck", "--strict", "--module", "nodenext", "--target", "es2022"];
  execFileSync("node_modules/.bin/tsc", [...flags, "literals.ts"], { encoding: "utf8" });
} catch (error) {
  wrong.push(error.stdout || error.message);
}
console.log(JSON.stringify(wrong));
