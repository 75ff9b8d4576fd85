{{/*
What the programs are told, as the file that CARRIERARR_CONFIG names. Keys are those of the configuration reference;
values.schema.json knows them all, so that a misspelt one stops at `helm install` and not in a pod.
*/}}

{{/* Milliseconds of a duration such as 1h30m or 500ms. */}}
{{- define "carrierarr.milliseconds" -}}
{{- $ms := 0.0 -}}
{{- range regexFindAll `[0-9]+(\.[0-9]+)?(ms|s|m|h)` (toString .) -1 -}}
  {{- $amount := regexFind `^[0-9.]+` . | float64 -}}
  {{- $unit := regexFind `[a-z]+$` . -}}
  {{- $ms = addf $ms (mulf $amount (index (dict "ms" 1.0 "s" 1000.0 "m" 60000.0 "h" 3600000.0) $unit)) -}}
{{- end -}}
{{- $ms -}}
{{- end }}

{{/* Seconds, rounded up, of a duration. */}}
{{- define "carrierarr.seconds" -}}
{{- divf (include "carrierarr.milliseconds" . | float64) 1000.0 | ceil | int64 -}}
{{- end }}

{{/* Bytes of a size such as 64KiB, or of a number. */}}
{{- define "carrierarr.bytes" -}}
{{- if kindIs "string" . -}}
{{- $unit := regexFind `[A-Za-z]+$` . | default "B" -}}
{{- mulf (regexFind `^[0-9.]+` . | float64) (get (dict "B" 1.0 "KiB" 1024.0 "MiB" 1048576.0 "GiB" 1073741824.0 "TiB" 1099511627776.0) $unit) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end }}

{{/* A duration that is configured, else the program's own default. Arguments: config, key, default. */}}
{{- define "carrierarr.secondsOf" -}}
{{- include "carrierarr.seconds" (get .config .key | default .default) -}}
{{- end }}

{{/* Seconds that a gateway may take after SIGTERM. */}}
{{- define "carrierarr.gateway.stopSeconds" -}}
{{- include "carrierarr.secondsOf" (dict "config" .Values.gateway.config "key" "shutdownGrace" "default" "30s") -}}
{{- end }}

{{/* Seconds for which a runner that was told to stop lets commands go on. */}}
{{- define "carrierarr.runner.shutdownSeconds" -}}
{{- $config := .Values.runner.config -}}
{{- $longest := include "carrierarr.secondsOf" (dict "config" $config "key" "commandTimeoutMax" "default" "24h") -}}
{{- hasKey $config "shutdownGrace" | ternary (include "carrierarr.seconds" ($config.shutdownGrace | default "0")) $longest -}}
{{- end }}

{{/* Longest time between two polls of a source, s: of one in which nothing has changed for long. */}}
{{- define "carrierarr.monitor.pollSecondsMax" -}}
{{- $config := .Values.monitor.config -}}
{{- $poll := include "carrierarr.secondsOf" (dict "config" $config "key" "poll" "default" "30s") | int64 -}}
{{- $longest := mul 2 $poll -}}
{{- with $config.pollMax }}{{ $longest = include "carrierarr.seconds" . | int64 }}{{ end -}}
{{- max $poll $longest -}}
{{- end }}

{{/*
Grace period of a component's pods: what its program may take after SIGTERM, and a margin in which it says why when it
takes longer. Arguments: root, component.
*/}}
{{- define "carrierarr.graceSeconds" -}}
{{- $values := index .root.Values .component -}}
{{- if kindIs "invalid" $values.terminationGracePeriodSeconds -}}
  {{- if eq .component "gateway" -}}
    {{- add $values.preStopSleepSeconds (include "carrierarr.gateway.stopSeconds" .root) 10 -}}
  {{- else if eq .component "monitor" -}}
    {{- add (include "carrierarr.monitor.preStopSeconds" .root) 30 -}}
  {{- else -}}
    {{- $killSeconds := include "carrierarr.secondsOf" (dict "config" $values.config "key" "killGrace" "default" "10s") -}}
    {{- add (include "carrierarr.runner.shutdownSeconds" .root) $killSeconds 45 -}}
  {{- end -}}
{{- else -}}
  {{- $values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end }}

{{/* Those of the shared settings that a component has. Arguments: root, component. */}}
{{- define "carrierarr.sharedSettings" -}}
{{- $shared := .root.Values.config -}}
{{- if eq .component "runner" }}{{ $shared = omit $shared "queueLengthMax" "pendingTargetsMax" }}{{ end -}}
{{- toYaml $shared -}}
{{- end }}

{{- define "carrierarr.gateway.settings" -}}
{{- $auth := .Values.auth -}}
{{- $settings := dict "addr" (printf ":%d" (int .Values.gateway.port)) "opsAddr" (printf ":%d" (int .Values.gateway.opsPort)) -}}
{{- if $auth.anonymous }}{{ $_ := set $settings "allowAnonymous" true }}{{ end -}}
{{- if include "carrierarr.auth.secretName" . }}{{ $_ := set $settings "tokensFile" "/etc/carrierarr/auth/tokens" }}{{ end -}}
{{- with $auth.jwt -}}
  {{- if .jwksUrl }}{{ $_ := set $settings "jwtJwksUrl" .jwksUrl }}{{ end -}}
  {{- if include "carrierarr.auth.hasJwksFile" $ }}{{ $_ := set $settings "jwtJwksFile" "/etc/carrierarr/jwks/jwks.json" }}{{ end -}}
  {{- if include "carrierarr.auth.hasJwt" $ -}}
    {{- $_ := set $settings "jwtIssuer" .issuer -}}
    {{- $_ := set $settings "jwtAudience" .audience -}}
    {{- $_ := set $settings "jwtSubjectClaim" .subjectClaim -}}
  {{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{- define "carrierarr.runner.settings" -}}
{{- $settings := dict
  "opsAddr" (printf ":%d" (int .Values.runner.opsPort))
  "shutdownGrace" (printf "%ss" (include "carrierarr.runner.shutdownSeconds" .)) -}}
{{- if not .Values.runner.config.withoutScript }}{{ $_ := set $settings "script" (include "carrierarr.runner.scriptPath" .) }}{{ end -}}
{{- toYaml $settings -}}
{{- end }}

{{- define "carrierarr.runner.scriptPath" -}}
{{- $script := .Values.runner.script -}}
{{- if $script.inline -}}
/etc/carrierarr/script/control.sh
{{- else if $script.existingConfigMap -}}
/etc/carrierarr/script/{{ $script.key }}
{{- else -}}
{{ $script.path }}
{{- end -}}
{{- end }}

{{- define "carrierarr.monitor.settings" -}}
{{- $agents := include "carrierarr.agents.settings" . | fromYaml -}}
{{- toYaml (set $agents "opsAddr" (printf ":%d" (int .Values.monitor.opsPort))) -}}
{{- end }}

{{/* The whole file of a component. What the chart itself must know wins. Arguments: root, component. */}}
{{- define "carrierarr.settings" -}}
{{- $root := .root -}}
{{- $computed := include (printf "carrierarr.%s.settings" .component) $root | fromYaml -}}
{{- $redis := include "carrierarr.redis.settings" $root | fromYaml -}}
{{- $shared := include "carrierarr.sharedSettings" . | fromYaml -}}
{{- toYaml (mergeOverwrite dict $shared (deepCopy (index $root.Values .component).config) $redis $computed) -}}
{{- end }}
