{{/* Rules that the NetworkPolicies share. */}}

{{/* To names and to Redis. */}}
{{- define "voiceping.egressToState" -}}
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
