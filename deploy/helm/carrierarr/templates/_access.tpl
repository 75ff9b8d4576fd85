{{/* Name of the Secret with the tokens file; empty if there is none. */}}
{{- define "carrierarr.auth.secretName" -}}
{{- if .Values.auth.existingSecret -}}
{{ .Values.auth.existingSecret }}
{{- else if and .Values.auth.generateToken (not .Values.auth.anonymous) -}}
{{ include "carrierarr.fullname" . }}-auth
{{- end -}}
{{- end }}

{{/* Key of one token in that Secret; empty if there is none. */}}
{{- define "carrierarr.auth.tokenKey" -}}
{{- if include "carrierarr.auth.secretName" . -}}
{{ empty .Values.auth.existingSecret | ternary "token" .Values.auth.tokenKey }}
{{- end -}}
{{- end }}

{{/* "true" if gateways can be reached from outside of the cluster. */}}
{{- define "carrierarr.isPublic" -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled (ne .Values.gateway.service.type "ClusterIP") -}}true{{- end -}}
{{- end }}
