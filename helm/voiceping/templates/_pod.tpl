{{/* What the pods of both roles share. */}}

{{/* The restricted profile of the Pod Security Standards. */}}
{{- define "voiceping.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "voiceping.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A variable from a Secret. Takes a dict with name, secret and key. */}}
{{- define "voiceping.fromSecret" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}}
{{- end }}

{{/* Variables that both roles read. */}}
{{- define "voiceping.env" -}}
{{- $values := .Values -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- {name: VOICEPING_LOG, value: {{ $values.log.filter | quote }}}
- {name: VOICEPING_LOG_FORMAT, value: {{ $values.log.format | quote }}}
- {name: VOICEPING_REGION, value: {{ $values.region | quote }}}
- {name: VOICEPING_REDIS_URL, value: {{ include "voiceping.redisUrls" . | quote }}}
- {name: VOICEPING_REDIS_MODE, value: {{ $values.redis.bundled.enabled | ternary "standalone" $values.redis.mode | quote }}}
- {name: VOICEPING_REDIS_PREFIX, value: {{ $values.redis.prefix | quote }}}
{{- with $values.redis.master }}
- {name: VOICEPING_REDIS_MASTER, value: {{ . | quote }}}
{{- end }}
{{- with include "voiceping.redisSecret" . }}
{{ include "voiceping.fromSecret" (dict "name" "VOICEPING_REDIS_PASSWORD" "secret" . "key" $values.redis.password.key) }}
{{- end }}
{{- if or $values.redis.ca.existingSecret $values.redis.ca.existingConfigMap }}
- {name: VOICEPING_REDIS_CA, value: /etc/voiceping/redis/ca.crt}
{{- end }}
{{- if include "voiceping.tlsSecret" . }}
- {name: VOICEPING_GRPC_TLS_CERT, value: /etc/voiceping/grpc/tls.crt}
- {name: VOICEPING_GRPC_TLS_KEY, value: /etc/voiceping/grpc/tls.key}
- {name: VOICEPING_GRPC_TLS_CA, value: /etc/voiceping/grpc/ca.crt}
- {name: VOICEPING_GRPC_TLS_NAME, value: {{ $values.grpc.tls.serverName | quote }}}
{{- end }}
{{- with include "voiceping.clusterSecret" . }}
{{ include "voiceping.fromSecret" (dict "name" "VOICEPING_CLUSTER_SECRET" "secret" . "key" $values.grpc.clusterSecret.key) }}
{{- end }}
{{- end }}

{{/* What a process tells of itself: on the admin port, and to a collector. */}}
{{- define "voiceping.telemetryEnv" -}}
{{- $telemetry := .root.Values.telemetry -}}
{{- $attributes := merge (dict) $telemetry.otlp.resourceAttributes (dict "k8s.namespace.name" "$(POD_NAMESPACE)" "k8s.pod.name" "$(POD_NAME)") -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: VOICEPING_ADMIN_LISTEN, value: "{{ include "voiceping.podAddress" .root }}:{{ $telemetry.adminPort }}"}
{{- with $telemetry.otlp.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: OTEL_EXPORTER_OTLP_PROTOCOL, value: grpc}
- {name: OTEL_TRACES_SAMPLER, value: {{ $telemetry.otlp.sampler | quote }}}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ $telemetry.otlp.samplerArgument | quote }}}
{{- $pairs := list }}
{{- range $key := keys $attributes | sortAlpha }}
{{- $pairs = append $pairs (printf "%s=%s" $key (get $attributes $key)) }}
{{- end }}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: {{ join "," $pairs | quote }}}
{{- with $telemetry.otlp.headers.existingSecret }}
{{ include "voiceping.fromSecret" (dict "name" "OTEL_EXPORTER_OTLP_HEADERS" "secret" . "key" $telemetry.otlp.headers.key) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "voiceping.volumeMounts" -}}
{{- if include "voiceping.tlsSecret" . }}
- {name: grpc-tls, mountPath: /etc/voiceping/grpc, readOnly: true}
{{- end }}
{{- if or .Values.redis.ca.existingSecret .Values.redis.ca.existingConfigMap }}
- {name: redis-ca, mountPath: /etc/voiceping/redis, readOnly: true}
{{- end }}
{{- end }}

{{- define "voiceping.volumes" -}}
{{- with include "voiceping.tlsSecret" . }}
- name: grpc-tls
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- with .Values.redis.ca.existingSecret }}
- name: redis-ca
  secret:
    secretName: {{ . | quote }}
    items: [{key: {{ $.Values.redis.ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- with .Values.redis.ca.existingConfigMap }}
- name: redis-ca
  configMap:
    name: {{ . | quote }}
    items: [{key: {{ $.Values.redis.ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}

{{/* Where the pods of a role run. Takes a dict with root, role (its values), component and spread (its default). */}}
{{- define "voiceping.scheduling" -}}
serviceAccountName: {{ include "voiceping.serviceAccountName" .root }}
automountServiceAccountToken: false
# Variables of Services are not wanted: one named after this release would be taken for a setting.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .role.topologySpreadConstraints }}
{{- toYaml .role.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- range $topology := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $topology }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "voiceping.selectorLabels" (dict "root" $.root "component" $.component) | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}

{{/* A PodDisruptionBudget. Takes a dict with root, role (its values) and component. */}}
{{- define "voiceping.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "voiceping.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "voiceping.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .role.podDisruptionBudget.maxUnavailable }}
  # A pod that does not work must not hold up the emptying of a machine.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "voiceping.selectorLabels" . | nindent 6 }}
{{- end }}
