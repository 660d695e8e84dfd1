{{/*
An autoscaler of a role: Kubernetes' own or KEDA's. Takes a dict with root, role (its values), component, target (a Deployment's
name) and measures: a list of dicts with name (of the metric for a pod), query (its sum over the pods) and target.
*/}}
{{- define "voiceping.autoscaler" -}}
{{- if eq .role.autoscaling.engine "keda" }}
{{- include "voiceping.autoscaler.keda" . }}
{{- else }}
{{- include "voiceping.autoscaler.hpa" . }}
{{- end }}
{{- end }}

{{- define "voiceping.autoscaler.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .target }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "voiceping.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .target }}}
  minReplicas: {{ .role.autoscaling.minReplicas }}
  maxReplicas: {{ .role.autoscaling.maxReplicas }}
  metrics:
    {{- with .role.autoscaling.cpuUtilization }}
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ . }}}}
    {{- end }}
    {{- range .measures }}
    - type: Pods
      pods:
        metric: {name: {{ .name }}}
        target: {type: AverageValue, averageValue: {{ .target | int | quote }}}
    {{- end }}
    {{- with .role.autoscaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .role.autoscaling.behavior }}
  behavior: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "voiceping.autoscaler.keda" -}}
{{- $keda := .root.Values.keda -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .target }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "voiceping.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .target }}}
  minReplicaCount: {{ .role.autoscaling.minReplicas }}
  maxReplicaCount: {{ .role.autoscaling.maxReplicas }}
  pollingInterval: {{ $keda.pollingInterval }}
  cooldownPeriod: {{ $keda.cooldownPeriod }}
  {{- if .measures }}
  # When Prometheus does not answer: as many as there are.
  fallback: {failureThreshold: 3, replicas: {{ .role.autoscaling.minReplicas }}, behavior: currentReplicasIfHigher}
  {{- end }}
  {{- with .role.autoscaling.behavior }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {{- toYaml . | nindent 8 }}
  {{- end }}
  triggers:
    {{- with .role.autoscaling.cpuUtilization }}
    - type: cpu
      metricType: Utilization
      metadata: {value: {{ . | quote }}}
    {{- end }}
    {{- range .measures }}
    - type: prometheus
      metadata:
        serverAddress: {{ $keda.serverAddress | quote }}
        query: {{ .query | quote }}
        threshold: {{ .target | int | quote }}
        # Nothing is known, which is not the same as nobody there.
        ignoreNullValues: "false"
      {{- with $keda.authenticationRef }}
      authenticationRef: {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- with .role.autoscaling.triggers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The series of this release, as the ServiceMonitor names them. */}}
{{- define "voiceping.series" -}}
namespace="{{ .Release.Namespace }}",service="{{ include "voiceping.fullname" . }}-metrics"
{{- end }}
