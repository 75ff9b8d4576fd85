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

{{/* "true" if there is a file with keys of JSON Web Tokens. */}}
{{- define "carrierarr.auth.hasJwksFile" -}}
{{- with .Values.auth.jwt.jwksFile -}}
{{- if or .existingConfigMap .existingSecret -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* "true" if clients may show JSON Web Tokens. */}}
{{- define "carrierarr.auth.hasJwt" -}}
{{- if or .Values.auth.jwt.jwksUrl (include "carrierarr.auth.hasJwksFile" .) -}}true{{- end -}}
{{- end }}

{{/*
What gateways mount: the tokens file and that of keys, each a whole folder and never subPath. No checksums: a gateway reads
them again when they change.
*/}}
{{- define "carrierarr.auth.volumes" -}}
{{- with include "carrierarr.auth.secretName" . }}
- name: auth
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - { key: {{ $.Values.auth.existingSecret | empty | ternary "tokens" $.Values.auth.tokensKey }}, path: tokens }
{{- end }}
{{- with .Values.auth.jwt.jwksFile }}
{{- if .existingSecret }}
- name: jwks
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - { key: {{ .key }}, path: jwks.json }
{{- else if .existingConfigMap }}
- name: jwks
  configMap:
    name: {{ .existingConfigMap }}
    items:
      - { key: {{ .key }}, path: jwks.json }
{{- end }}
{{- end }}
{{- end }}

{{- define "carrierarr.auth.mounts" -}}
{{- if include "carrierarr.auth.secretName" . }}
- { name: auth, mountPath: /etc/carrierarr/auth, readOnly: true }
{{- end }}
{{- if include "carrierarr.auth.hasJwksFile" . }}
- { name: jwks, mountPath: /etc/carrierarr/jwks, readOnly: true }
{{- end }}
{{- end }}

{{/* "true" if gateways can be reached from outside of the cluster. */}}
{{- define "carrierarr.isPublic" -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled (ne .Values.gateway.service.type "ClusterIP") -}}true{{- end -}}
{{- end }}
