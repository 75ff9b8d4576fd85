{{/* What Ingresses have in common. */}}

{{/* Annotations for the load balancer of AWS. Argument: the values of an Ingress. */}}
{{- define "carrierarr.ingress.alb" -}}
alb.ingress.kubernetes.io/scheme: {{ .alb.scheme }}
# To pods, not to nodes: a pod that drains is then taken out by itself.
alb.ingress.kubernetes.io/target-type: ip
alb.ingress.kubernetes.io/load-balancer-attributes: idle_timeout.timeout_seconds=3600
alb.ingress.kubernetes.io/healthcheck-interval-seconds: '5'
alb.ingress.kubernetes.io/healthcheck-timeout-seconds: '3'
alb.ingress.kubernetes.io/healthy-threshold-count: '2'
{{- with .alb.certificateArn }}
alb.ingress.kubernetes.io/certificate-arn: {{ . }}
{{- end }}
{{- if or .alb.certificateArn .tls }}
alb.ingress.kubernetes.io/listen-ports: '[{"HTTP": 80}, {"HTTPS": 443}]'
alb.ingress.kubernetes.io/ssl-redirect: '443'
{{- end }}
{{- end }}

{{/*
An Ingress. Arguments: root, ingress (its values), name (also of the Service), component, port (of the Service), annotations
(of the preset), paths.
*/}}
{{- define "carrierarr.ingress" -}}
{{- $backend := dict "service" (dict "name" .name "port" (dict "name" .port)) -}}
{{- $paths := .paths -}}
{{- $hosts := .ingress.hosts -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "carrierarr.metadata" (dict "root" .root "name" .name "component" .component "labels" .ingress.labels "annotations" (mergeOverwrite .annotations .ingress.annotations)) | nindent 2 }}
spec:
  {{- with .ingress.className | default .ingress.preset }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .ingress.tls }}
  tls:
    {{- range . }}
    - secretName: {{ .secretName }}
      hosts: {{ .hosts | default $hosts | toJson }}
    {{- end }}
  {{- end }}
  rules:
    {{- range $hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          {{- range $paths }}
          - { path: {{ .path }}, pathType: {{ .type }}, backend: {{ toJson $backend }} }
          {{- end }}
    {{- end }}
{{- end }}
