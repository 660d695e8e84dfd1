{{/*
The pod template of a media node. Takes a dict with root, name and instance: both empty for pods that are alike.
*/}}
{{- define "voiceping.mediaNode.pod" -}}
{{- $root := .root }}
{{- $media := $root.Values.mediaNode }}
{{- $hostNetwork := eq $media.exposure "hostNetwork" }}
{{- $role := merge (dict "nodeSelector" (merge (dict) ((.instance).nodeSelector | default dict) ($media.nodeSelector | default dict))) $media }}
{{- $of := dict "root" $root "component" "media-node" "role" $role }}
metadata:
  labels:
    {{- include "voiceping.podLabels" $of | nindent 4 }}
    voiceping/metrics: "true"
    {{- with .name }}
    voiceping/instance: {{ . | quote }}
    {{- end }}
    {{- with $media.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $media.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "voiceping.scheduling" $of | nindent 2 }}
  {{- if $hostNetwork }}
  # An exception to the baseline profile of the Pod Security Standards, as are host ports: audio goes to the machine's own
  # address, with nothing in between. Everything else is as the restricted profile wants it.
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with $media.priorityClassName | default ($root.Values.priorityClass.create | ternary (include "voiceping.fullname" $root) "") }}
  priorityClassName: {{ . }}
  {{- end }}
  # The drain, and what is left to do after it. No pause before: gateways learn of the drain from the node itself.
  terminationGracePeriodSeconds: {{ add $media.drainSeconds 10 }}
  securityContext: {{- include "voiceping.podSecurity" $root | nindent 4 }}
  containers:
    - name: media-node
      image: {{ include "voiceping.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [media-node]
      env:
        {{- include "voiceping.env" $root | nindent 8 }}
        {{- include "voiceping.telemetryEnv" $of | nindent 8 }}
        # Also what gateways and other media nodes are told: the machine's address with hostNetwork, else the pod's.
        - {name: VOICEPING_GRPC_LISTEN, value: "{{ include "voiceping.podAddress" $root }}:{{ $root.Values.grpc.port }}"}
        - {name: VOICEPING_MEDIA_LISTEN, value: "{{ include "voiceping.mediaAddress" $root }}:{{ $media.port }}"}
        - {name: VOICEPING_MEDIA_TCP_PORT, value: {{ include "voiceping.tcpPort" $root | default "off" | quote }}}
        - {name: VOICEPING_MEDIA_WORKERS, value: {{ $media.workers | quote }}}
        {{- if .instance }}
        - {name: VOICEPING_MEDIA_ANNOUNCE, value: {{ join "," .instance.addresses | quote }}}
        {{- else }}
        - name: VOICEPING_MEDIA_ANNOUNCE
          valueFrom: {fieldRef: {fieldPath: {{ ternary "status.podIP" "status.hostIP" (eq $media.announce "pod") }}}}
        {{- end }}
        - {name: VOICEPING_CAPACITY, value: {{ $media.capacity | int | quote }}}
        - {name: VOICEPING_GATEWAY_GRACE, value: {{ $media.gatewayGrace | quote }}}
        - {name: VOICEPING_DRAIN_DEADLINE, value: {{ printf "%ds" (int $media.drainSeconds) | quote }}}
        {{- with $media.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: grpc, containerPort: {{ $root.Values.grpc.port }}, protocol: TCP}
        - {name: admin, containerPort: {{ $root.Values.telemetry.adminPort }}, protocol: TCP}
        {{- with include "voiceping.tcpPort" $root }}
        - {name: media-tcp, containerPort: {{ . }}, protocol: TCP{{ if eq $media.exposure "hostPort" }}, hostPort: {{ . }}{{ end }}}
        {{- end }}
        {{- range $worker := until (int $media.workers) }}
        {{- $port := add $media.port $worker }}
        - {name: media-{{ $worker }}, containerPort: {{ $port }}, protocol: UDP{{ if eq $media.exposure "hostPort" }}, hostPort: {{ $port }}{{ end }}}
        {{- end }}
      # On the admin port, because Kubernetes cannot ask for grpc.health.v1 over TLS.
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      # Ready means: not draining, and in the registry.
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      resources: {{- toYaml $media.resources | nindent 8 }}
      securityContext: {{- include "voiceping.containerSecurity" $root | nindent 8 }}
      {{- with include "voiceping.volumeMounts" $root | trim }}
      volumeMounts: {{- . | nindent 8 }}
      {{- end }}
  {{- with include "voiceping.volumes" $root | trim }}
  volumes: {{- . | nindent 4 }}
  {{- end }}
{{- end }}
