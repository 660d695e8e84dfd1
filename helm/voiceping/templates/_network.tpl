{{/* Rules that the NetworkPolicies share. */}}

{{/* Machines ask pods for their health from an address that every network plugin lets through. */}}
{{- define "voiceping.ingressOfMetrics" -}}
- ports: [{port: admin, protocol: TCP}]
  {{- with .Values.networkPolicy.metricsFrom }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* To names, to Redis and to the collector. */}}
{{- define "voiceping.egressToState" -}}
{{- with .Values.telemetry.otlp.endpoint }}
- ports: [{port: {{ regexFind ":[0-9]+/?$" . | trimAll ":/" | default "4317" }}, protocol: TCP}]
  {{- with $.Values.networkPolicy.otlpTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- if .Values.redis.bundled.enabled }}
- ports: [{port: 6379, protocol: TCP}]
  to:
    - podSelector:
        matchLabels: {{- include "voiceping.selectorLabels" (dict "root" . "component" "redis") | nindent 10 }}
{{- else }}
- ports:
    {{- range .Values.networkPolicy.redisPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.redisTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where media nodes are called: a `to`, or nothing for anywhere. On the machines' network they have no labels that count. */}}
{{- define "voiceping.mediaNodePeers" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if ne .Values.mediaNode.exposure "hostNetwork" -}}
to:
  - podSelector:
      matchLabels: {{- include "voiceping.selectorLabels" (dict "root" . "component" "media-node") | nindent 8 }}
  {{- with $policy.grpcFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- else if $policy.nodeCIDRs -}}
to:
  {{- include "voiceping.nodes" . | nindent 2 }}
  {{- with $policy.grpcFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "voiceping.nodes" -}}
{{- range .Values.networkPolicy.nodeCIDRs }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end }}
