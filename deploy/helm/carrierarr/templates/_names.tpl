{{/* Names and labels. "component" is one of gateway, runner, monitor, redis, test. */}}

{{- define "carrierarr.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* 40 characters, which leaves room for "-gateway-internal" within the 63 of a name. */}}
{{- define "carrierarr.fullname" -}}
{{- $name := include "carrierarr.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Arguments: root, component. */}}
{{- define "carrierarr.selector" -}}
app.kubernetes.io/name: {{ include "carrierarr.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object. Arguments: root, component (may be missing), labels (may be missing). */}}
{{- define "carrierarr.labels" -}}
{{- $root := .root -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "carrierarr.name" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/part-of" "carrierarr"
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- with .component }}{{ $_ := set $own "app.kubernetes.io/component" . }}{{ end -}}
{{- /* Ours last: Services and policies select by them. */ -}}
{{- toYaml (merge $own (.labels | default dict) $root.Values.commonLabels) -}}
{{- end }}

{{/*
Labels of pods. No versions: a new chart alone restarts nothing, least of all Redis. Arguments: root, component, labels.
*/}}
{{- define "carrierarr.podLabels" -}}
{{- $own := include "carrierarr.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "carrierarr" -}}
{{- toYaml (merge $own .labels .root.Values.commonLabels) -}}
{{- end }}

{{/* metadata of an object. Arguments: root, name, and as they are there: component, labels, annotations. */}}
{{- define "carrierarr.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "carrierarr.labels" . | nindent 2 }}
{{- with merge dict (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Reference of one of our images. Arguments: root, image. */}}
{{- define "carrierarr.image" -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- include "carrierarr.imageReference" (merge (dict "registry" .root.Values.image.registry "tag" $tag) .image) -}}
{{- end }}

{{/* Reference of any image. Arguments: registry, repository, tag, digest; the digest wins over the tag. */}}
{{- define "carrierarr.imageReference" -}}
{{- $repository := .repository -}}
{{- with .registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}{{ end -}}
{{ $repository }}{{ .digest | empty | ternary (printf ":%s" (toString .tag)) (printf "@%s" .digest) }}
{{- end }}

{{/* Arguments: root, component. */}}
{{- define "carrierarr.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- $own := printf "%s-%s" (include "carrierarr.fullname" .root) .component -}}
{{- $account.name | default ($account.create | ternary $own "default") -}}
{{- end }}
