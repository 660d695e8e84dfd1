{{/*
What gateways trust, and what they sign with. As files, which they read again when a Secret changes; a variable would stay as it was.
*/}}
{{- define "voiceping.keysEnv" -}}
{{- $tokens := .Values.tokens }}
{{- if include "voiceping.tokenSecret" . }}
- {name: VOICEPING_JWT_SECRET_FILE, value: /etc/voiceping/tokens/secret}
{{- end }}
{{- if $tokens.jwks.url }}
- {name: VOICEPING_JWKS, value: {{ $tokens.jwks.url | quote }}}
{{- else if $tokens.jwks.existingConfigMap }}
- {name: VOICEPING_JWKS, value: /etc/voiceping/jwks/keys}
{{- end }}
{{- if $tokens.jwks.caSecret }}
- {name: VOICEPING_JWKS_CA, value: /etc/voiceping/jwks-ca/ca.crt}
{{- end }}
{{- if .Values.turn.urls }}
- {name: VOICEPING_TURN_URLS, value: {{ join "," .Values.turn.urls | quote }}}
- {name: VOICEPING_TURN_SECRET_FILE, value: /etc/voiceping/turn/secret}
- {name: VOICEPING_TURN_TTL, value: {{ .Values.turn.lifetime | quote }}}
{{- end }}
{{- if .Values.gateway.tls.existingSecret }}
- {name: VOICEPING_TLS_CERT, value: /etc/voiceping/tls/tls.crt}
- {name: VOICEPING_TLS_KEY, value: /etc/voiceping/tls/tls.key}
{{- end }}
{{- with include "voiceping.sessionSecret" . }}
{{ include "voiceping.fromSecret" (dict "name" "VOICEPING_SESSION_SECRET" "secret" . "key" $tokens.session.key) }}
{{- end }}
{{- end }}

{{- define "voiceping.keysMounts" -}}
{{- $tokens := .Values.tokens }}
{{- if .Values.turn.urls }}
- {name: turn, mountPath: /etc/voiceping/turn, readOnly: true}
{{- end }}
{{- if .Values.gateway.tls.existingSecret }}
- {name: tls, mountPath: /etc/voiceping/tls, readOnly: true}
{{- end }}
{{- if include "voiceping.tokenSecret" . }}
- {name: tokens, mountPath: /etc/voiceping/tokens, readOnly: true}
{{- end }}
{{- if $tokens.jwks.existingConfigMap }}
- {name: jwks, mountPath: /etc/voiceping/jwks, readOnly: true}
{{- end }}
{{- if $tokens.jwks.caSecret }}
- {name: jwks-ca, mountPath: /etc/voiceping/jwks-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "voiceping.keysVolumes" -}}
{{- $tokens := .Values.tokens }}
{{- if .Values.turn.urls }}
- name: turn
  secret:
    secretName: {{ include "voiceping.turnSecret" . | quote }}
    defaultMode: 0440
    items: [{key: {{ .Values.turn.key | quote }}, path: secret}]
{{- end }}
{{- with .Values.gateway.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- with include "voiceping.tokenSecret" . }}
- name: tokens
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    items: [{key: {{ $tokens.key | quote }}, path: secret}]
{{- end }}
{{- with $tokens.jwks.existingConfigMap }}
- name: jwks
  configMap:
    name: {{ . | quote }}
    items: [{key: {{ $tokens.jwks.key | quote }}, path: keys}]
{{- end }}
{{- with $tokens.jwks.caSecret }}
- name: jwks-ca
  secret:
    secretName: {{ . | quote }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end }}
