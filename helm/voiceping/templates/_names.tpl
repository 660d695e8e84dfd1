{{/* Names, labels, image. */}}

{{- define "voiceping.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for what is appended. */}}
{{- define "voiceping.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "voiceping.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "voiceping.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels that pods are selected by. Takes a dict with root and component. */}}
{{- define "voiceping.selectorLabels" -}}
app.kubernetes.io/name: {{ include "voiceping.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Labels of everything. Takes a dict with root and component. */}}
{{- define "voiceping.labels" -}}
{{ include "voiceping.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
Labels of pods: without versions, for a change of the chart alone must not restart anything. Takes a dict with root and
component.
*/}}
{{- define "voiceping.podLabels" -}}
{{ include "voiceping.selectorLabels" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "voiceping.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "voiceping.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "voiceping.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "voiceping.generatedSecret" -}}
{{ include "voiceping.fullname" . }}-generated
{{- end }}

{{/* Names of the Secrets that are in use, or nothing. */}}
{{- define "voiceping.tokenSecret" -}}
{{- .Values.tokens.existingSecret | default (.Values.generateSecrets | ternary (include "voiceping.generatedSecret" .) "") }}
{{- end }}

{{- define "voiceping.tlsSecret" -}}
{{- if .Values.grpc.tls.existingSecret -}}
{{ .Values.grpc.tls.existingSecret }}
{{- else if .Values.grpc.tls.certManager.issuerRef.name -}}
{{ include "voiceping.fullname" . }}-grpc-tls
{{- end }}
{{- end }}

{{- define "voiceping.clusterSecret" -}}
{{- .Values.grpc.clusterSecret.existingSecret | default (.Values.generateSecrets | ternary (include "voiceping.generatedSecret" .) "") }}
{{- end }}

{{- define "voiceping.redisSecret" -}}
{{- .Values.redis.password.existingSecret | default (and .Values.generateSecrets .Values.redis.bundled.enabled | ternary (include "voiceping.generatedSecret" .) "") }}
{{- end }}

{{- define "voiceping.turnSecret" -}}
{{- .Values.turn.existingSecret | default (and .Values.generateSecrets (gt (len .Values.turn.urls) 0) | ternary (include "voiceping.generatedSecret" .) "") }}
{{- end }}

{{/* A YAML list of the addresses that a TURN server has to reach. */}}
{{- define "voiceping.relayPeers" -}}
{{- $peers := .Values.coturn.peers }}
{{- range $instance := .Values.mediaNode.instances }}
{{- $peers = concat $peers $instance.addresses }}
{{- end }}
{{- toYaml ($peers | uniq) }}
{{- end }}

{{- define "voiceping.redisUrls" -}}
{{- if .Values.redis.bundled.enabled -}}
redis://{{ include "voiceping.fullname" . }}-redis:6379
{{- else -}}
{{ join "," .Values.redis.urls }}
{{- end }}
{{- end }}

{{- define "voiceping.gatewayScheme" -}}
{{ empty .Values.gateway.tls.existingSecret | ternary "http" "https" }}
{{- end }}

{{- define "voiceping.sessionSecret" -}}
{{- .Values.tokens.session.existingSecret | default (and .Values.generateSecrets (not (include "voiceping.tokenSecret" .)) | ternary (include "voiceping.generatedSecret" .) "") }}
{{- end }}

{{/* A pod's own address in front of a port, and any address. */}}
{{- define "voiceping.podAddress" -}}
{{ .Values.ipv6 | ternary "[$(POD_IP)]" "$(POD_IP)" }}
{{- end }}

{{- define "voiceping.anyAddress" -}}
{{ .Values.ipv6 | ternary "[::]" "0.0.0.0" }}
{{- end }}

{{/* Both families, if clients are told of one address of IPv6. */}}
{{- define "voiceping.mediaAddress" -}}
{{- $any := include "voiceping.anyAddress" . }}
{{- range $instance := .Values.mediaNode.instances }}
{{- range $instance.addresses }}
{{- if contains ":" . }}{{ $any = "[::]" }}{{ end }}
{{- end }}
{{- end }}
{{- $any }}
{{- end }}

{{- define "voiceping.tcpPort" -}}
{{- if .Values.mediaNode.tcp.enabled }}{{ .Values.mediaNode.tcp.port | default .Values.mediaNode.port | int }}{{ end }}
{{- end }}

{{/* The last UDP port of a media node. */}}
{{- define "voiceping.lastPort" -}}
{{ sub (add .Values.mediaNode.port .Values.mediaNode.workers) 1 }}
{{- end }}
