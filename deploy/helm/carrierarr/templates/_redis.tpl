{{/* How Redis is reached: settings for the file, and what comes out of Secrets. */}}

{{- define "carrierarr.redis.name" -}}{{ include "carrierarr.fullname" . }}-redis{{- end }}

{{- define "carrierarr.redis.settings" -}}
{{- $settings := dict -}}
{{- if .Values.redis.bundled.enabled -}}
  {{- $_ := set $settings "redisUrl" (printf "redis://%s:6379" (include "carrierarr.redis.name" .)) -}}
{{- else -}}
  {{- with .Values.redis.external -}}
    {{- if .url }}{{ $_ := set $settings "redisUrl" .url }}{{ end -}}
    {{- $_ := set $settings "redisMode" .mode -}}
    {{- with .nodes }}{{ $_ := set $settings "redisNodes" . }}{{ end -}}
    {{- if eq .mode "sentinel" }}{{ $_ := set $settings "redisSentinelName" .sentinelName }}{{ end -}}
    {{- with .username }}{{ $_ := set $settings "redisUsername" . }}{{ end -}}
    {{- with .tls -}}
      {{- if .enabled }}{{ $_ := set $settings "redisTls" true }}{{ end -}}
      {{- if .caKey }}{{ $_ := set $settings "redisTlsCa" "/etc/carrierarr/redis-tls/ca.crt" }}{{ end -}}
      {{- if .certKey }}{{ $_ := set $settings "redisTlsCert" "/etc/carrierarr/redis-tls/tls.crt" }}{{ end -}}
      {{- if .keyKey }}{{ $_ := set $settings "redisTlsKey" "/etc/carrierarr/redis-tls/tls.key" }}{{ end -}}
      {{- with .servername }}{{ $_ := set $settings "redisTlsServername" . }}{{ end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/* Passwords, as a map: secret, password, sentinelPassword, url (keys in it; missing or empty if there is none). */}}
{{- define "carrierarr.redis.secret" -}}
{{- if .Values.redis.bundled.enabled -}}
{{- $bundled := .Values.redis.bundled -}}
{{- toYaml (dict "secret" ($bundled.existingSecret | default (include "carrierarr.redis.name" .)) "password" (ternary $bundled.passwordKey "password" (ne $bundled.existingSecret ""))) -}}
{{- else if .Values.redis.external.existingSecret -}}
{{- with .Values.redis.external -}}
{{- toYaml (dict "secret" .existingSecret "url" .urlKey "password" .passwordKey "sentinelPassword" .sentinelPasswordKey) -}}
{{- end -}}
{{- else -}}
{}
{{- end -}}
{{- end }}

{{- define "carrierarr.redis.env" -}}
{{- $secret := include "carrierarr.redis.secret" . | fromYaml -}}
{{- if $secret.url }}
- name: CARRIERARR_REDIS_URL
  valueFrom:
    secretKeyRef: { name: {{ $secret.secret }}, key: {{ $secret.url }} }
{{- end }}
{{- if $secret.password }}
- { name: CARRIERARR_REDIS_PASSWORD_FILE, value: /etc/carrierarr/redis/password }
{{- end }}
{{- if $secret.sentinelPassword }}
- { name: CARRIERARR_REDIS_SENTINEL_PASSWORD_FILE, value: /etc/carrierarr/redis/sentinel-password }
{{- end }}
{{- end }}

{{- define "carrierarr.redis.volumes" -}}
{{- $secret := include "carrierarr.redis.secret" . | fromYaml -}}
{{- if or $secret.password $secret.sentinelPassword }}
- name: redis
  secret:
    secretName: {{ $secret.secret }}
    defaultMode: 0440
    items:
      {{- with $secret.password }}
      - { key: {{ . }}, path: password }
      {{- end }}
      {{- with $secret.sentinelPassword }}
      - { key: {{ . }}, path: sentinel-password }
      {{- end }}
{{- end }}
{{- if include "carrierarr.redis.hasCertificates" . }}
{{- with .Values.redis.external.tls }}
- name: redis-tls
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      {{- with .caKey }}
      - { key: {{ . }}, path: ca.crt }
      {{- end }}
      {{- with .certKey }}
      - { key: {{ . }}, path: tls.crt }
      {{- end }}
      {{- with .keyKey }}
      - { key: {{ . }}, path: tls.key }
      {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "carrierarr.redis.mounts" -}}
{{- $secret := include "carrierarr.redis.secret" . | fromYaml -}}
{{- if or $secret.password $secret.sentinelPassword }}
- { name: redis, mountPath: /etc/carrierarr/redis, readOnly: true }
{{- end }}
{{- if include "carrierarr.redis.hasCertificates" . }}
- { name: redis-tls, mountPath: /etc/carrierarr/redis-tls, readOnly: true }
{{- end }}
{{- end }}

{{- define "carrierarr.redis.hasCertificates" -}}
{{- $tls := .Values.redis.external.tls -}}
{{- if and (not .Values.redis.bundled.enabled) $tls.existingSecret }}true{{ end -}}
{{- end }}

{{/* Ports of an external Redis, as a list of numbers in JSON: that of the URL, those of the nodes, that of what Sentinels name. */}}
{{- define "carrierarr.redis.ports" -}}
{{- $external := .Values.redis.external -}}
{{- $ports := list -}}
{{- range $external.nodes }}{{ $ports = append $ports (regexFind `[0-9]+$` . | int) }}{{ end -}}
{{- if ne $external.mode "cluster" -}}
  {{- $own := $external.port | int -}}
  {{- with $external.url -}}
    {{- with regexFind `:[0-9]+$` (urlParse .).host }}{{ $own = trimPrefix ":" . | int }}{{ end -}}
  {{- end -}}
  {{- $ports = append $ports $own -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end }}

{{/* Changes when a password that programs read once, at their start, does. */}}
{{- define "carrierarr.redis.checksum" -}}
{{- if and .Values.redis.bundled.enabled (not .Values.redis.bundled.existingSecret) -}}
{{ include "carrierarr.redis.password" . | sha256sum }}
{{- end -}}
{{- end }}

{{/*
The password of the bundled Redis: the one that is in the cluster, else a new one. Kept on the release's values for the
time of one rendering, or each use would make another.
*/}}
{{- define "carrierarr.redis.password" -}}
{{- include "carrierarr.keptSecret" (dict "root" . "name" (include "carrierarr.redis.name" .) "key" "password") -}}
{{- end }}

{{/* A secret text that is made once. Arguments: root, name (of the Secret), key. */}}
{{- define "carrierarr.keptSecret" -}}
{{- $kept := .root.Values._kept | default dict -}}
{{- $id := printf "%s/%s" .name .key -}}
{{- if not (hasKey $kept $id) -}}
  {{- $there := lookup "v1" "Secret" .root.Release.Namespace .name | default dict -}}
  {{- $text := dig "data" .key "" $there | b64dec | default (randAlphaNum 48) -}}
  {{- $_ := set $kept $id $text -}}
  {{- $_ := set .root.Values "_kept" $kept -}}
{{- end -}}
{{- get $kept $id -}}
{{- end }}
