{{/* Combinations that would hurt, of what has to do with agents: a list of sentences in JSON. */}}
{{- define "carrierarr.agents.problems" -}}
{{- $problems := list -}}
{{- $agents := .Values.agents -}}
{{- $grpc := $agents.grpc -}}
{{- $hasTls := not (empty $grpc.tls.existingSecret) -}}
{{- $hasCa := not (empty $grpc.clientCa.existingSecret) -}}
{{- $hasTokens := not (empty $grpc.tokens.existingSecret) -}}
{{- $route := or $agents.grpcRoute.enabled $agents.ingress.enabled -}}

{{- if and (include "carrierarr.agents.isPublic" .) (not $grpc.enabled) -}}
{{- $problems = append $problems "There is a way in for agents (agents.grpcRoute, agents.ingress or agents.service.type), but monitors do not serve any. Set agents.grpc.enabled=true, or take the way away." -}}
{{- end -}}
{{- if $grpc.enabled -}}
  {{- if and $hasTls $grpc.tls.atProxy -}}
  {{- $problems = append $problems "agents.grpc.tls.existingSecret is set, and agents.grpc.tls.atProxy says that a proxy ends TLS. Keep one of them: with the Secret the proxy has to speak TLS to the monitors." -}}
  {{- end -}}
  {{- if and $hasCa (not $hasTls) -}}
  {{- $problems = append $problems "agents.grpc.clientCa is set, but agents are served without TLS, where nobody shows a certificate. Set agents.grpc.tls.existingSecret, or let agents in by agents.grpc.tokens." -}}
  {{- end -}}
  {{- if $grpc.insecure -}}
    {{- if $route -}}
    {{- $problems = append $problems "agents.grpc.insecure lets every machine be an agent, and agents.grpcRoute or agents.ingress leads to the monitors from outside of the cluster: whoever reaches that proxy could pass for a worker and be given its commands. Use agents.grpc.tokens, or let agents in without a proxy, by agents.service.type=LoadBalancer with agents.service.loadBalancerSourceRanges." -}}
    {{- else if and (include "carrierarr.agents.isPublic" .) (not (include "carrierarr.agents.isBounded" .)) -}}
    {{- $problems = append $problems (printf "agents.grpc.insecure lets every machine be an agent, and monitors can be reached from outside of the cluster (agents.service.type=%s): anybody there could pass for a worker and be given its commands. Say which networks agents come from, by networkPolicy.agentsFrom or a LoadBalancer's agents.service.loadBalancerSourceRanges (not all of them, as 0.0.0.0/0); or use agents.grpc.tokens or agents.grpc.clientCa." $agents.service.type) -}}
    {{- end -}}
    {{- if and $hasTls (or $hasCa $hasTokens) -}}
    {{- $problems = append $problems "agents.grpc.insecure is set, but TLS and a way to tell agents from others are configured too. Keep one of them." -}}
    {{- end -}}
  {{- else if not (or $hasTls $grpc.tls.atProxy) -}}
  {{- $problems = append $problems "agents.grpc has no TLS: anybody on the way could read and change what agents and monitors say. Set agents.grpc.tls.existingSecret; or agents.grpc.tls.atProxy=true if a proxy before the monitors ends it; or, if every machine that reaches the monitors may be an agent, agents.grpc.insecure=true." -}}
  {{- else if not (or $hasCa $hasTokens) -}}
  {{- $problems = append $problems "agents.grpc does not tell agents from others: anybody who reaches the monitors could pass for a worker and be given its commands. Set agents.grpc.tokens.existingSecret or agents.grpc.clientCa.existingSecret." -}}
  {{- end -}}
  {{- if and $route $hasCa (not $hasTokens) -}}
  {{- $problems = append $problems "agents.grpcRoute and agents.ingress end TLS, so certificates of agents do not pass through them and whoever comes is taken for the proxy. Set agents.grpc.tokens.existingSecret; for certificates use agents.service.type=LoadBalancer." -}}
  {{- end -}}
  {{- $stale := .Values.monitor.config.staleTimeout | default "2m" -}}
  {{- $longest := divf (include "carrierarr.milliseconds" $stale | float64) 2.0 | floor -}}
  {{- range $key := list "agentHeartbeatInterval" "agentStatusInterval" -}}
    {{- $given := get $.Values.monitor.config $key -}}
    {{- if and $given (gt (include "carrierarr.milliseconds" $given | float64) $longest) -}}
    {{- $problems = append $problems (printf "Expected monitor.config.%s to be at most half of staleTimeout (%s), got %s: agents would count as stale between two reports." $key $stale $given) -}}
    {{- end -}}
  {{- end -}}
  {{- if eq (int $grpc.port) (int .Values.monitor.opsPort) -}}
  {{- $problems = append $problems (printf "agents.grpc.port and monitor.opsPort are both %d. They need a port each." (int $grpc.port)) -}}
  {{- end -}}
{{- end -}}
{{- with $agents.grpcRoute -}}
  {{- if and .enabled (not .parentRefs) -}}
  {{- $problems = append $problems "agents.grpcRoute.enabled needs agents.grpcRoute.parentRefs: the Gateway that it belongs to." -}}
  {{- end -}}
  {{- if and .enabled $.Values.httpRoute.enabled -}}
    {{- $both := list -}}
    {{- range .hostnames }}{{ if has . $.Values.httpRoute.hostnames }}{{ $both = append $both . }}{{ end }}{{ end -}}
    {{- if or $both (and (empty .hostnames) (empty $.Values.httpRoute.hostnames)) -}}
    {{- $problems = append $problems (printf "agents.grpcRoute and httpRoute have the same host (%s): a Gateway takes only one of the two. Give agents a name of their own in agents.grpcRoute.hostnames." (join ", " $both | default "any")) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with $agents.ingress -}}
  {{- if and .enabled (not .hosts) -}}
  {{- $problems = append $problems "agents.ingress.enabled needs agents.ingress.hosts: the names under which agents find it." -}}
  {{- end -}}
  {{- if and .enabled (not (or .tls .alb.certificateArn)) -}}
  {{- $problems = append $problems "agents.ingress has no TLS: tokens would cross the network in clear, and controllers speak gRPC only over TLS. Set agents.ingress.tls or agents.ingress.alb.certificateArn." -}}
  {{- end -}}
{{- end -}}
{{- if and $agents.rabbitmq.ca.existingSecret (not $agents.rabbitmq.existingSecret) -}}
{{- $problems = append $problems "agents.rabbitmq.ca is set, but there is no RabbitMQ: set agents.rabbitmq.existingSecret, the Secret with its URL." -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}
