{{/*
Combinations that would hurt. Each is refused with what was found and what to do; single values are judged by
values.schema.json.
*/}}
{{- define "carrierarr.validate" -}}
{{- $problems := list -}}
{{- $auth := .Values.auth -}}
{{- $redis := .Values.redis -}}
{{- $hasJwt := include "carrierarr.auth.hasJwt" . -}}

{{- if and $auth.anonymous (include "carrierarr.isPublic" .) -}}
{{- $problems = append $problems "auth.anonymous lets everybody in, and gateways can be reached from outside of the cluster (ingress, httpRoute or gateway.service.type): anybody there could run commands on your workers. Give clients tokens (auth.anonymous=false), or take away the way in." -}}
{{- end -}}
{{- if and $auth.anonymous (or $auth.existingSecret $hasJwt) -}}
{{- $problems = append $problems "auth.anonymous lets everybody in, but tokens are configured too (auth.existingSecret or auth.jwt). Keep one of them." -}}
{{- end -}}
{{- if not (or $auth.anonymous $auth.existingSecret $auth.generateToken $hasJwt) -}}
{{- $problems = append $problems "Nobody could connect: set auth.existingSecret, auth.jwt or auth.generateToken=true, or say auth.anonymous=true if the network decides who gets in." -}}
{{- end -}}
{{- if and $hasJwt (not (and $auth.jwt.issuer $auth.jwt.audience)) -}}
{{- $problems = append $problems "auth.jwt needs auth.jwt.issuer and auth.jwt.audience: without them tokens that are meant for other programs would be accepted." -}}
{{- end -}}
{{- if and (not $hasJwt) (or $auth.jwt.issuer $auth.jwt.audience) -}}
{{- $problems = append $problems "auth.jwt.issuer or auth.jwt.audience is set, but no keys: add auth.jwt.jwksUrl or auth.jwt.jwksFile." -}}
{{- end -}}
{{- if and $auth.jwt.jwksUrl (include "carrierarr.auth.hasJwksFile" .) -}}
{{- $problems = append $problems "auth.jwt.jwksUrl and auth.jwt.jwksFile are both set. Keep one of them." -}}
{{- end -}}
{{- with $auth.jwt.jwksFile -}}
  {{- if and .existingConfigMap .existingSecret -}}
  {{- $problems = append $problems "auth.jwt.jwksFile.existingConfigMap and auth.jwt.jwksFile.existingSecret are both set. Keep one of them." -}}
  {{- end -}}
{{- end -}}

{{- $hasExternal := or $redis.external.url $redis.external.nodes $redis.external.existingSecret -}}
{{- if and $redis.bundled.enabled $hasExternal -}}
{{- $problems = append $problems "redis.external is set, but redis.bundled.enabled is true, so it would not be used. Set redis.bundled.enabled=false." -}}
{{- end -}}
{{- if not $redis.bundled.enabled -}}
  {{- if and (eq $redis.external.mode "single") (not (or $redis.external.url $redis.external.urlKey)) -}}
  {{- $problems = append $problems "There is no Redis: set redis.external.url, or redis.external.existingSecret and urlKey, or redis.bundled.enabled=true." -}}
  {{- end -}}
  {{- if and (ne $redis.external.mode "single") (not $redis.external.nodes) -}}
  {{- $problems = append $problems (printf "redis.external.mode=%s needs redis.external.nodes: the Sentinels, or some nodes of the Cluster." $redis.external.mode) -}}
  {{- end -}}
  {{- if and (eq $redis.external.mode "single") $redis.external.nodes -}}
  {{- $problems = append $problems "redis.external.nodes is set, but redis.external.mode is single. Set it to sentinel or cluster." -}}
  {{- end -}}
  {{- with $redis.external -}}
    {{- if and (or .urlKey .passwordKey .sentinelPasswordKey) (not .existingSecret) -}}
    {{- $problems = append $problems "redis.external has keys of a Secret (urlKey, passwordKey or sentinelPasswordKey), but no existingSecret: which Secret are they in?" -}}
    {{- end -}}
    {{- if and .existingSecret (not (or .urlKey .passwordKey .sentinelPasswordKey)) -}}
    {{- $problems = append $problems "redis.external.existingSecret is set, but nothing is read from it: set passwordKey, urlKey or sentinelPasswordKey." -}}
    {{- end -}}
    {{- with .tls -}}
      {{- if and (or .caKey .certKey .keyKey) (not .existingSecret) -}}
      {{- $problems = append $problems "redis.external.tls has keys of a Secret (caKey, certKey or keyKey), but no existingSecret: which Secret are they in?" -}}
      {{- end -}}
      {{- if ne (empty .certKey) (empty .keyKey) -}}
      {{- $problems = append $problems "redis.external.tls.certKey and keyKey belong together: a client certificate needs its key." -}}
      {{- end -}}
    {{- end -}}
    {{- if regexMatch `^[a-z]+://[^/@]*:[^/@]+@` .url -}}
    {{- $problems = append $problems "redis.external.url contains a password, which everybody could read in the ConfigMaps. Put it into a Secret: redis.external.existingSecret with passwordKey or urlKey." -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- if eq .Values.mode "production" -}}
  {{- if and $redis.bundled.enabled (not $redis.bundled.persistence.enabled) -}}
  {{- $problems = append $problems "mode=production with a bundled Redis without persistence: a restart of its pod would lose accepted commands, output and what workers are to be. Use redis.external, or redis.bundled.persistence.enabled=true." -}}
  {{- end -}}
  {{- range $component := list "gateway" "runner" "monitor" -}}
    {{- $values := index $.Values $component -}}
    {{- $scaled := dig "autoscaling" "enabled" false $values -}}
    {{- $least := $scaled | ternary (dig "autoscaling" "minReplicas" 0 $values) $values.replicas | int -}}
    {{- if lt $least 2 -}}
    {{- $key := $scaled | ternary "autoscaling.minReplicas" "replicas" -}}
    {{- $problems = append $problems (printf "mode=production with %s.%s=%d: there would be nobody while it is away. Set it to 2 or more, or mode=trial." $component $key $least) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- if eq (int .Values.gateway.port) (int .Values.gateway.opsPort) -}}
{{- $problems = append $problems (printf "gateway.port and gateway.opsPort are both %d. They need a port each." (int .Values.gateway.port)) -}}
{{- end -}}
{{- $gateway := .Values.gateway.config -}}
{{- $drain := add (include "carrierarr.secondsOf" (dict "config" $gateway "key" "drainDelay" "default" "5s")) (include "carrierarr.secondsOf" (dict "config" $gateway "key" "drainSpread" "default" "10s")) -}}
{{- $stop := include "carrierarr.gateway.stopSeconds" . | int64 -}}
{{- if ge $drain $stop -}}
{{- $problems = append $problems (printf "Expected gateway.config.shutdownGrace to be longer than drainDelay and drainSpread together (%ds), got %ds." $drain $stop) -}}
{{- end -}}
{{- $idle := $gateway.idleTimeout | default "60s" -}}
{{- $unauthenticated := $gateway.unauthenticatedTimeout | default "10s" -}}
{{- if gt (include "carrierarr.milliseconds" $unauthenticated | float64) (include "carrierarr.milliseconds" $idle | float64) -}}
{{- $problems = append $problems (printf "Expected gateway.config.unauthenticatedTimeout to be at most idleTimeout (%s), got %s." $idle $unauthenticated) -}}
{{- end -}}
{{- $stops := dict
  "gateway" (add .Values.gateway.preStopSleepSeconds $stop)
  "runner" (include "carrierarr.runner.shutdownSeconds" .)
  "monitor" (add (include "carrierarr.monitor.preStopSeconds" .) 20) -}}
{{- $shorter := dict "gateway" "gateway.config.shutdownGrace" "runner" "runner.config.shutdownGrace" "monitor" "monitor.preStopSleepSeconds" -}}
{{- range $component := list "gateway" "runner" "monitor" -}}
  {{- $values := index $.Values $component -}}
  {{- if not (kindIs "invalid" $values.terminationGracePeriodSeconds) -}}
    {{- $needed := get $stops $component | int64 -}}
    {{- if lt (int64 $values.terminationGracePeriodSeconds) $needed -}}
    {{- $problems = append $problems (printf "%s.terminationGracePeriodSeconds=%d is shorter than the pod needs to stop by itself (%ds): Kubernetes would kill it on the way. Leave it out to have it computed, or shorten %s." $component (int64 $values.terminationGracePeriodSeconds) $needed (get $shorter $component)) -}}
    {{- end -}}
  {{- end -}}
  {{- with $values.autoscaling -}}
    {{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
    {{- $problems = append $problems (printf "%s.autoscaling.minReplicas (%d) is more than maxReplicas (%d)." $component (int .minReplicas) (int .maxReplicas)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $shutdown := include "carrierarr.runner.shutdownSeconds" . | int64 -}}
{{- if gt $shutdown 604800 -}}
{{- $problems = append $problems (printf "Commands may run for %ds (runner.config.commandTimeoutMax), but a runner waits for 168h (604800s) at most when it stops, so rollouts would end some. Shorten commandTimeoutMax, or set runner.config.shutdownGrace." $shutdown) -}}
{{- end -}}

{{- with .Values.gateway.autoscaling -}}
  {{- if and .enabled (not (or (gt (int .cpu) 0) (gt (int .connections) 0))) -}}
  {{- $problems = append $problems "gateway.autoscaling has nothing to scale on: set cpu or connections above 0." -}}
  {{- end -}}
{{- end -}}
{{- with .Values.runner.autoscaling -}}
  {{- if and .enabled (eq .kind "keda") (not .keda.prometheusUrl) -}}
  {{- $problems = append $problems "runner.autoscaling.kind=keda needs runner.autoscaling.keda.prometheusUrl: where KEDA finds the metric." -}}
  {{- end -}}
{{- end -}}
{{- with .Values.runner.script -}}
  {{- if and .inline .existingConfigMap -}}
  {{- $problems = append $problems "runner.script.inline and runner.script.existingConfigMap are both set. Keep one of them." -}}
  {{- end -}}
  {{- if and $.Values.runner.config.withoutScript (or .inline .existingConfigMap) -}}
  {{- $problems = append $problems "runner.config.withoutScript is true, but there is a script (runner.script.inline or runner.script.existingConfigMap). Keep one of them." -}}
  {{- end -}}
{{- end -}}

{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $problems = append $problems "ingress.enabled needs ingress.hosts: the names under which clients find it." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- $problems = append $problems "httpRoute.enabled needs httpRoute.parentRefs: the Gateway that it belongs to." -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- $problems = append $problems "metrics.serviceMonitor and metrics.podMonitor are both enabled: every metric would be counted twice. Keep one of them." -}}
{{- end -}}

{{- $problems = concat $problems (include "carrierarr.agents.problems" . | fromJsonArray) (include "carrierarr.bounds.problems" . | fromJsonArray) -}}

{{- if $problems -}}
{{- fail (printf "\n\nThese values are refused:\n\n- %s\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end }}
