{{/*
Combinations that the schema cannot tell: what would install and then not work is refused here, with the way out. All that
is wrong is said at once. Included by the Deployment of the gateways, which every release has.
*/}}
{{- define "voiceping.checks" -}}
{{- $wrong := concat (include "voiceping.checks.media" . | fromYamlArray) (include "voiceping.checks.secrets" . | fromYamlArray) (include "voiceping.checks.redis" . | fromYamlArray) (include "voiceping.checks.ways" . | fromYamlArray) (include "voiceping.checks.turn" . | fromYamlArray) }}
{{- if $wrong }}
{{- fail (printf "\n\nThese values would not work:\n- %s\n" (join "\n- " $wrong)) }}
{{- end }}
{{- end }}

{{/* Each of these is a YAML list of what is wrong. */}}
{{- define "voiceping.checks.media" -}}
{{- $wrong := list }}
{{- $media := .Values.mediaNode }}
{{- $perPod := eq $media.exposure "loadBalancerPerPod" }}
{{- if and $perPod (ne $media.announce "loadBalancer") }}
{{- $wrong = append $wrong (printf "mediaNode.announce=%s with exposure=loadBalancerPerPod: clients would send to an address where no load balancer listens. Set mediaNode.announce=loadBalancer." $media.announce) }}
{{- end }}
{{- $stunner := eq $media.exposure "stunner" }}
{{- if and $stunner (ne $media.announce "pod") }}
{{- $wrong = append $wrong (printf "mediaNode.announce=%s with exposure=stunner: STUNner forwards to addresses of pods only. Set mediaNode.announce=pod." $media.announce) }}
{{- end }}
{{- if and (not $stunner) (eq $media.announce "pod") }}
{{- $wrong = append $wrong (printf "mediaNode.announce=pod with exposure=%s: clients cannot reach the addresses of pods. Set mediaNode.announce=%s." $media.exposure ($perPod | ternary "loadBalancer" "node or static")) }}
{{- end }}
{{- if and $stunner (not .Values.turn.urls) }}
{{- $wrong = append $wrong "mediaNode.exposure=stunner without turn.urls: clients must be told of STUNner's listener. Set turn.urls, such as turn:192.0.2.1:3478?transport=udp, and turn.existingSecret, with the secret of its GatewayConfig (authType: ephemeral)." }}
{{- end }}
{{- if and $stunner (not $media.stunner.parentRefs) }}
{{- $wrong = append $wrong "mediaNode.exposure=stunner without mediaNode.stunner.parentRefs: a route belongs to a Gateway." }}
{{- end }}
{{- if and $stunner $media.instances }}
{{- $wrong = append $wrong "mediaNode.instances with exposure=stunner: pods are alike there. Set mediaNode.replicas." }}
{{- end }}
{{- if and (not $perPod) (eq $media.announce "loadBalancer") }}
{{- $wrong = append $wrong (printf "mediaNode.announce=loadBalancer with exposure=%s: there is no load balancer in front of the media nodes. Set mediaNode.announce=node or static, or exposure=loadBalancerPerPod." $media.exposure) }}
{{- end }}
{{- if and (has $media.announce (list "static" "loadBalancer")) (not $media.instances) }}
{{- $wrong = append $wrong (printf "mediaNode.announce=%s without mediaNode.instances: each media node must be told the address at which clients reach it and no other node. List one instance for each pod, with its addresses." $media.announce) }}
{{- end }}
{{- if and (eq $media.announce "node") $media.instances }}
{{- $wrong = append $wrong "mediaNode.instances with announce=node: instances are for addresses that Kubernetes does not know. Set mediaNode.announce=static, or take the instances away and set mediaNode.replicas." }}
{{- end }}
{{- if and $media.instances $media.autoscaling.enabled }}
{{- $wrong = append $wrong "mediaNode.autoscaling with mediaNode.instances: a new pod would have no address of its own. Scale by adding instances." }}
{{- end }}
{{- $owner := dict }}
{{- range $name, $instance := $media.instances }}
{{- range $address := $instance.addresses }}
{{- if hasKey $owner $address }}
{{- $wrong = append $wrong (printf "mediaNode.instances %s and %s both have the address %s: packets of one node's clients would reach the other." (get $owner $address) $name $address) }}
{{- end }}
{{- $_ := set $owner $address $name }}
{{- if has $address (list "0.0.0.0" "::") }}
{{- $wrong = append $wrong (printf "mediaNode.instances.%s: clients cannot send to %s." $name $address) }}
{{- end }}
{{- end }}
{{- if and (not $perPod) (gt (len $media.instances) 1) (not $instance.nodeSelector) }}
{{- $wrong = append $wrong (printf "mediaNode.instances.%s has no nodeSelector: with exposure=%s its address belongs to one machine, and the pod could be put on another." $name $media.exposure) }}
{{- end }}
{{- end }}
{{- if gt (include "voiceping.lastPort" . | int) 65535 }}
{{- $wrong = append $wrong (printf "mediaNode.port=%d with workers=%d: there are no UDP ports above 65535." (int $media.port) (int $media.workers)) }}
{{- end }}
{{- with include "voiceping.tcpPort" . | int }}
{{- if has . (list (int $.Values.grpc.port) (int $.Values.telemetry.adminPort)) }}
{{- $wrong = append $wrong (printf "mediaNode.tcp.port=%d is also the port for calls or for metrics: give it another." .) }}
{{- end }}
{{- if and (lt . 1024) (eq $media.exposure "hostNetwork") }}
{{- $wrong = append $wrong (printf "mediaNode.tcp.port=%d with exposure=hostNetwork: pods run without the right to ports below 1024. Forward it to a higher one outside, or use hostPort." .) }}
{{- end }}
{{- end }}
{{- range $role := list "gateway" "mediaNode" }}
{{- $values := get $.Values $role }}
{{- if $values.autoscaling.enabled }}
{{- if and $values.autoscaling.cpuUtilization (not (($values.resources).requests).cpu) }}
{{- $wrong = append $wrong (printf "%s.autoscaling.cpuUtilization is a share of resources.requests.cpu, and there is none." $role) }}
{{- end }}
{{- $scaling := $values.autoscaling }}
{{- $own := or $scaling.sockets $scaling.connections $scaling.workersBusy }}
{{- $keda := eq $scaling.engine "keda" }}
{{- if not (or $scaling.cpuUtilization $own ($keda | ternary $scaling.triggers $scaling.metrics)) }}
{{- $wrong = append $wrong (printf "%s.autoscaling has nothing to scale by: set cpuUtilization, %s or %s." $role (eq $role "gateway" | ternary "sockets" "connections, workersBusy") ($keda | ternary "triggers" "metrics")) }}
{{- end }}
{{- if and $keda $own (not $.Values.keda.serverAddress) }}
{{- $wrong = append $wrong (printf "%s.autoscaling.engine=keda without keda.serverAddress: KEDA asks Prometheus. Name the one that scrapes this release." $role) }}
{{- end }}
{{- if and (not $keda) $scaling.triggers }}
{{- $wrong = append $wrong (printf "%s.autoscaling.triggers with engine=hpa: only KEDA has triggers. Set engine=keda, or write metrics." $role) }}
{{- end }}
{{- if and $keda $scaling.metrics }}
{{- $wrong = append $wrong (printf "%s.autoscaling.metrics with engine=keda: write triggers." $role) }}
{{- end }}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) }}
{{- $wrong = append $wrong (printf "%s.autoscaling.minReplicas is more than maxReplicas." $role) }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}

{{- define "voiceping.checks.secrets" -}}
{{- $wrong := list }}
{{- $jwks := .Values.tokens.jwks }}
{{- $provider := or $jwks.url $jwks.existingConfigMap }}
{{- if and $jwks.url $jwks.existingConfigMap }}
{{- $wrong = append $wrong "tokens.jwks has both a url and an existingConfigMap: set one of them." }}
{{- end }}
{{- if and $jwks.caSecret (not $jwks.url) }}
{{- $wrong = append $wrong "tokens.jwks.caSecret without tokens.jwks.url: a file needs no authority." }}
{{- end }}
{{- if and $provider (not (include "voiceping.tokenSecret" .)) (not (include "voiceping.sessionSecret" .)) }}
{{- $wrong = append $wrong "tokens.jwks without tokens.session.existingSecret: all gateways must know the tickets with which clients come back to their sessions. Make a Secret with at least 32 bytes." }}
{{- end }}
{{- if and $provider .Values.tokens.devSignIn (not (include "voiceping.tokenSecret" .)) }}
{{- $wrong = append $wrong "tokens.devSignIn without tokens.existingSecret: there is nothing to sign with." }}
{{- end }}
{{- if not (or $provider (include "voiceping.tokenSecret" .)) }}
{{- $wrong = append $wrong "tokens.existingSecret is empty: all gateways must verify tokens with the same secret, or with a provider's keys (tokens.jwks). Make one, for example with `kubectl create secret generic voiceping-tokens --from-literal=jwt-secret=$(openssl rand -hex 32)`, or set generateSecrets=true to try it out." }}
{{- end }}
{{- if not (or (include "voiceping.tlsSecret" .) (include "voiceping.clusterSecret" .)) }}
{{- $wrong = append $wrong "grpc has neither TLS nor a secret: gateways and media nodes must know each other. Set grpc.tls.existingSecret or grpc.tls.certManager.issuerRef.name, or grpc.clusterSecret.existingSecret for development." }}
{{- end }}
{{- if and .Values.grpc.tls.existingSecret .Values.grpc.tls.certManager.issuerRef }}
{{- $wrong = append $wrong "grpc.tls has both an existingSecret and a certManager.issuerRef: set one of them." }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}

{{- define "voiceping.checks.redis" -}}
{{- $wrong := list }}
{{- $redis := .Values.redis }}
{{- if and $redis.bundled.enabled $redis.urls }}
{{- $wrong = append $wrong "redis.bundled.enabled with redis.urls: set one of them." }}
{{- end }}
{{- if not (or $redis.bundled.enabled $redis.urls) }}
{{- $wrong = append $wrong "redis.urls is empty: gateways and media nodes find each other in Redis. Give the URLs of yours, or set redis.bundled.enabled=true to try it out." }}
{{- end }}
{{- if and $redis.bundled.enabled (ne $redis.mode "standalone") }}
{{- $wrong = append $wrong (printf "redis.mode=%s with redis.bundled.enabled: the bundled Redis is a single server." $redis.mode) }}
{{- end }}
{{- if and $redis.bundled.enabled (not (include "voiceping.redisSecret" .)) }}
{{- $wrong = append $wrong "redis.bundled has no password: set redis.password.existingSecret, or generateSecrets=true." }}
{{- end }}
{{- if and (eq $redis.mode "sentinel") (not $redis.master) }}
{{- $wrong = append $wrong "redis.mode=sentinel without redis.master: Sentinels are asked for a master by its name." }}
{{- end }}
{{- if and $redis.master (ne $redis.mode "sentinel") }}
{{- $wrong = append $wrong (printf "redis.master with redis.mode=%s: only Sentinels have a name for the master." $redis.mode) }}
{{- end }}
{{- if and (eq $redis.mode "standalone") (gt (len $redis.urls) 1) }}
{{- $wrong = append $wrong "redis.mode=standalone with several redis.urls: processes could use different servers. Set redis.mode=sentinel or cluster." }}
{{- end }}
{{- $tls := 0 }}
{{- range $redis.urls }}
{{- if hasPrefix "rediss://" . }}
{{- $tls = add1 $tls }}
{{- end }}
{{- if regexMatch "^rediss?://[^@/]*:[^@/]*@" . }}
{{- $wrong = append $wrong "redis.urls has a password in it: put it into a Secret and name that in redis.password.existingSecret." }}
{{- end }}
{{- end }}
{{- if and (gt (int $tls) 0) (lt (int $tls) (len $redis.urls)) }}
{{- $wrong = append $wrong "redis.urls mixes redis:// and rediss://: all servers are reached in one way." }}
{{- end }}
{{- if and (or $redis.ca.existingSecret $redis.ca.existingConfigMap) (eq (int $tls) 0) }}
{{- $wrong = append $wrong "redis.ca without TLS: write the URLs with rediss://." }}
{{- end }}
{{- if and $redis.ca.existingSecret $redis.ca.existingConfigMap }}
{{- $wrong = append $wrong "redis.ca has both an existingSecret and an existingConfigMap: set one of them." }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}

{{- define "voiceping.checks.turn" -}}
{{- $wrong := list }}
{{- $coturn := .Values.coturn }}
{{- if and .Values.turn.urls (not (include "voiceping.turnSecret" .)) }}
{{- $wrong = append $wrong "turn.urls without turn.existingSecret: gateways make credentials from a secret that they share with the TURN server." }}
{{- end }}
{{- if $coturn.enabled }}
{{- if not .Values.turn.urls }}
{{- $wrong = append $wrong (printf "coturn.enabled without turn.urls: clients must be told of it, such as turn:turn.example:%d?transport=udp." (int $coturn.port)) }}
{{- end }}
{{- if eq .Values.mediaNode.exposure "stunner" }}
{{- $wrong = append $wrong "coturn.enabled with mediaNode.exposure=stunner: STUNner is the TURN server there." }}
{{- end }}
{{- if not (include "voiceping.relayPeers" . | fromYamlArray) }}
{{- $wrong = append $wrong "coturn.peers is empty: it would relay to nobody. List the addresses of the media nodes as clients are told them, or ranges (10.0.0.1-10.0.0.254)." }}
{{- end }}
{{- if gt (int $coturn.relayPorts.first) (int $coturn.relayPorts.last) }}
{{- $wrong = append $wrong "coturn.relayPorts.first is more than last." }}
{{- end }}
{{- $tls := false }}
{{- range .Values.turn.urls }}
{{- $tls = or $tls (hasPrefix "turns:" .) }}
{{- end }}
{{- if and $tls (not $coturn.tls.existingSecret) }}
{{- $wrong = append $wrong "turn.urls has a turns: URL, and coturn.tls.existingSecret is empty: coturn needs a certificate for it." }}
{{- end }}
{{- if and (eq .Values.mediaNode.exposure "hostNetwork") (le (int $coturn.relayPorts.first) (include "voiceping.lastPort" . | int)) (ge (int $coturn.relayPorts.last) (int .Values.mediaNode.port)) }}
{{- $wrong = append $wrong "coturn.relayPorts and the ports of the media nodes overlap: both may be on one machine." }}
{{- end }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}

{{- define "voiceping.checks.ways" -}}
{{- $wrong := list }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- $wrong = append $wrong "httpRoute.enabled without httpRoute.parentRefs: a route belongs to a Gateway." }}
{{- end }}
{{- if and .Values.gateway.tls.existingSecret (or .Values.ingress.enabled .Values.httpRoute.enabled) }}
{{- $wrong = append $wrong "gateway.tls.existingSecret with ingress or httpRoute: these end TLS themselves and speak plain HTTP with gateways." }}
{{- end }}
{{- if and .Values.ingress.enabled .Values.ingress.tlsSecret (not .Values.ingress.hosts) }}
{{- $wrong = append $wrong "ingress.tlsSecret without ingress.hosts: a certificate is for names." }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}
