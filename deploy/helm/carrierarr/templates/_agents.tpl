{{/* How monitors serve agents: settings for the file, and what comes out of Secrets. */}}

{{/* Of the Service, and of the routes that lead to it. */}}
{{- define "carrierarr.agents.name" -}}{{ include "carrierarr.fullname" . }}-agents{{- end }}

{{/* What agents call, as the protocol names it. */}}
{{- define "carrierarr.agents.grpcService" -}}ec2agent.v1.AgentControl{{- end }}

{{/* "true" if agents can come from outside of the cluster. */}}
{{- define "carrierarr.agents.isPublic" -}}
{{- with .Values.agents -}}
{{- if or .grpcRoute.enabled .ingress.enabled (ne .service.type "ClusterIP") -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* "true" if only some networks reach the Service for agents: by its load balancer, or by the policy of the monitors. */}}
{{- define "carrierarr.agents.isBounded" -}}
{{- $ranges := .Values.agents.service.loadBalancerSourceRanges -}}
{{- $from := .Values.networkPolicy.agentsFrom -}}
{{- $byBalancer := and (eq .Values.agents.service.type "LoadBalancer") $ranges (not (regexMatch `/0("|$)` (toJson $ranges))) -}}
{{- $byPolicy := and .Values.networkPolicy.enabled $from (not (regexMatch `/0("|$)` (toJson $from))) -}}
{{- if or $byBalancer $byPolicy -}}true{{- end -}}
{{- end }}

{{/* Seconds for which a monitor that serves agents goes on before it is told to stop. */}}
{{- define "carrierarr.monitor.preStopSeconds" -}}
{{- .Values.agents.grpc.enabled | ternary (int .Values.monitor.preStopSleepSeconds) 0 -}}
{{- end }}

{{- define "carrierarr.agents.settings" -}}
{{- $settings := dict "grpcAddr" "off" -}}
{{- with .Values.agents.grpc -}}
  {{- if .enabled -}}
    {{- $_ := set $settings "grpcAddr" (printf ":%d" (int .port)) -}}
    {{- if or .insecure .tls.atProxy }}{{ $_ := set $settings "grpcInsecure" true }}{{ end -}}
    {{- if .tls.existingSecret -}}
      {{- $_ := set $settings "grpcTlsCert" "/etc/carrierarr/agents-tls/tls.crt" -}}
      {{- $_ := set $settings "grpcTlsKey" "/etc/carrierarr/agents-tls/tls.key" -}}
    {{- end -}}
    {{- if .clientCa.existingSecret }}{{ $_ := set $settings "grpcTlsClientCa" "/etc/carrierarr/agents-ca/ca.crt" }}{{ end -}}
    {{- if .tokens.existingSecret }}{{ $_ := set $settings "agentTokensFile" "/etc/carrierarr/agents-tokens/tokens" }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- with .Values.agents.rabbitmq -}}
  {{- if .existingSecret }}{{ $_ := set $settings "rabbitmqVhost" .vhost }}{{ end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/*
Secrets that monitors mount, as a list of {name, secretName, items}. Whole folders, never subPath: files that are changed
appear in the pods, and what is for gRPC is read again.
*/}}
{{- define "carrierarr.agents.secrets" -}}
{{- $secrets := list -}}
{{- with .Values.agents.grpc -}}
  {{- if .enabled -}}
    {{- with .tls }}{{ if .existingSecret }}{{ $secrets = append $secrets (dict "name" "agents-tls" "secretName" .existingSecret "items" (list (dict "key" .certKey "path" "tls.crt") (dict "key" .keyKey "path" "tls.key"))) }}{{ end }}{{ end -}}
    {{- with .clientCa }}{{ if .existingSecret }}{{ $secrets = append $secrets (dict "name" "agents-ca" "secretName" .existingSecret "items" (list (dict "key" .key "path" "ca.crt"))) }}{{ end }}{{ end -}}
    {{- with .tokens }}{{ if .existingSecret }}{{ $secrets = append $secrets (dict "name" "agents-tokens" "secretName" .existingSecret "items" (list (dict "key" .key "path" "tokens"))) }}{{ end }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- with .Values.agents.rabbitmq -}}
  {{- if .existingSecret }}{{ $secrets = append $secrets (dict "name" "rabbitmq" "secretName" .existingSecret "items" (list (dict "key" .urlKey "path" "url"))) }}{{ end -}}
  {{- with .ca }}{{ if .existingSecret }}{{ $secrets = append $secrets (dict "name" "rabbitmq-ca" "secretName" .existingSecret "items" (list (dict "key" .key "path" "ca.crt"))) }}{{ end }}{{ end -}}
{{- end -}}
{{- toJson $secrets -}}
{{- end }}

{{- define "carrierarr.agents.volumes" -}}
{{- range include "carrierarr.agents.secrets" . | fromJsonArray }}
- name: {{ .name }}
  secret:
    secretName: {{ .secretName }}
    defaultMode: 0440
    items:
      {{- range .items }}
      - { key: {{ .key }}, path: {{ .path }} }
      {{- end }}
{{- end }}
{{- end }}

{{- define "carrierarr.agents.mounts" -}}
{{- range include "carrierarr.agents.secrets" . | fromJsonArray }}
- { name: {{ .name }}, mountPath: /etc/carrierarr/{{ .name }}, readOnly: true }
{{- end }}
{{- end }}

{{- define "carrierarr.agents.env" -}}
{{- with .Values.agents.rabbitmq -}}
{{- if .existingSecret }}
- { name: CARRIERARR_RABBITMQ_URL_FILE, value: /etc/carrierarr/rabbitmq/url }
{{- end }}
{{- if .ca.existingSecret }}
- { name: NODE_EXTRA_CA_CERTS, value: /etc/carrierarr/rabbitmq-ca/ca.crt }
{{- end }}
{{- end }}
{{- end }}
