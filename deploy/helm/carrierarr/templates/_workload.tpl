{{/* What the Deployments of gateway, runner and monitor have in common, which is nearly all. */}}

{{/* Restricted Pod Security, and no way to write to the image. */}}
{{- define "carrierarr.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Argument: uid. Mounted Secrets belong to the group. */}}
{{- define "carrierarr.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int . }}
runAsGroup: {{ int . }}
fsGroup: {{ int . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* User and group of our images. */}}
{{- define "carrierarr.uid" -}}10001{{- end }}

{{/* Where pods go. Arguments: root, component. */}}
{{- define "carrierarr.placement" -}}
{{- $values := index .root.Values .component -}}
{{- $selector := include "carrierarr.selector" . -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.affinity }}
affinity:
  {{- tpl (toYaml $values.affinity) .root | nindent 2 }}
{{- else if ne $values.antiAffinity "off" }}
affinity:
  podAntiAffinity:
    {{- if eq $values.antiAffinity "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        # Pods of one version: else a rollout on as many nodes as there are pods would wait for room for ever.
        matchLabelKeys: [pod-template-hash]
        labelSelector:
          matchLabels:
            {{- $selector | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- $selector | nindent 14 }}
    {{- end }}
{{- end }}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- tpl (toYaml $values.topologySpreadConstraints) .root | nindent 2 }}
{{- else }}
  - topologyKey: topology.kubernetes.io/zone
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    # Of one version: pods that are about to go do not count.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
{{- end }}
{{- end }}

{{/*
A Deployment. Arguments: root, component, portName (of the probes), and texts in YAML, each a list that may be empty:
ports, env, mounts, volumes. hasReplicas: false if something else scales it. preStopSleepSeconds: 0 for none.
*/}}
{{- define "carrierarr.deployment" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .component -}}
{{- $name := printf "%s-%s" (include "carrierarr.fullname" $root) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "carrierarr.metadata" (dict "root" $root "name" $name "component" .component) | nindent 2 }}
spec:
  {{- if .hasReplicas }}
  replicas: {{ int $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # Longer than a start with a slow Redis.
  minReadySeconds: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: { maxUnavailable: 0, maxSurge: 1 }
  selector:
    matchLabels:
      {{- include "carrierarr.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "carrierarr.podLabels" (dict "root" $root "component" .component "labels" $values.podLabels) | nindent 8 }}
      annotations:
        checksum/config: {{ include "carrierarr.settings" . | sha256sum }}
        {{- with include "carrierarr.redis.checksum" $root }}
        checksum/redis: {{ . }}
        {{- end }}
        {{- with .checksum }}
        checksum/script: {{ . }}
        {{- end }}
        {{- with merge dict $values.podAnnotations $root.Values.commonAnnotations }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "carrierarr.serviceAccountName" . }}
      # Nothing here talks to the API server.
      automountServiceAccountToken: false
      # Kubernetes would set CARRIERARR_GATEWAY_SERVICE_HOST and its like: our programs refuse variables they do not know.
      enableServiceLinks: false
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      terminationGracePeriodSeconds: {{ include "carrierarr.graceSeconds" . }}
      securityContext:
        {{- include "carrierarr.podSecurity" (include "carrierarr.uid" $root) | nindent 8 }}
      {{- with $values.extraInitContainers }}
      initContainers:
        {{- tpl (toYaml .) $root | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "carrierarr.image" (dict "root" $root "image" $values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [{{ .component }}]
          securityContext:
            {{- include "carrierarr.containerSecurity" $root | nindent 12 }}
          env:
            - { name: CARRIERARR_CONFIG, value: /etc/carrierarr/config/config.yaml }
            # The same after a restart in place: a runner that comes back so frees its targets at once.
            - name: CARRIERARR_{{ upper .component }}_ID
              valueFrom: { fieldRef: { fieldPath: metadata.name } }
            {{- with include "carrierarr.redis.env" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with .env | default "" | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- tpl (toYaml .) $root | nindent 12 }}
            {{- end }}
          {{- with $values.extraEnvFrom }}
          envFrom:
            {{- tpl (toYaml .) $root | nindent 12 }}
          {{- end }}
          ports:
            {{- .ports | nindent 12 }}
          startupProbe:
            httpGet: { path: /health, port: {{ .portName }} }
            periodSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet: { path: /health, port: {{ .portName }} }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: { path: /ready, port: {{ .portName }} }
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          {{- if gt (int .preStopSleepSeconds) 0 }}
          lifecycle:
            preStop: { sleep: { seconds: {{ int .preStopSleepSeconds }} } }
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - { name: config, mountPath: /etc/carrierarr/config, readOnly: true }
            - { name: scratch, mountPath: /tmp, subPath: tmp }
            {{- with include "carrierarr.redis.mounts" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with .mounts | default "" | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $values.extraVolumeMounts }}
            {{- tpl (toYaml .) $root | nindent 12 }}
            {{- end }}
        {{- with $values.extraContainers }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
      volumes:
        - name: config
          configMap: { name: {{ $name }} }
        - name: scratch
          emptyDir: { sizeLimit: {{ $values.scratchSize | default "64Mi" }} }
        {{- with include "carrierarr.redis.volumes" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .volumes | default "" | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
      {{- include "carrierarr.placement" . | trim | nindent 6 }}
{{- end }}

{{/* Type of a Service, and how it is reached then. Argument: its values. */}}
{{- define "carrierarr.serviceType" -}}
type: {{ .type }}
{{- if eq .type "LoadBalancer" }}
{{- with .loadBalancerClass }}
loadBalancerClass: {{ . }}
{{- end }}
{{- with .loadBalancerSourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- if and .externalTrafficPolicy (ne .type "ClusterIP") }}
externalTrafficPolicy: {{ .externalTrafficPolicy }}
{{- end }}
{{- end }}
