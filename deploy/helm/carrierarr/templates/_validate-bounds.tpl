{{/*
Settings of programs that are too little or too much for them: a list of sentences in JSON. Bounds come from the programs
(bounds.json); values.schema.json has those of whole numbers.
*/}}
{{- define "carrierarr.bounds.problems" -}}
{{- $problems := list -}}
{{- $bounds := .Files.Get "bounds.json" | fromJson -}}
{{- range $component := list "gateway" "runner" "monitor" -}}
  {{- $own := (index $.Values $component).config -}}
  {{- $shared := include "carrierarr.sharedSettings" (dict "root" $ "component" $component) | fromYaml -}}
  {{- range $key, $bound := get $bounds $component -}}
    {{- $given := get $own $key -}}
    {{- $where := printf "%s.config.%s" $component $key -}}
    {{- if and (hasKey $shared $key) (not (hasKey $own $key)) }}{{ $given = get $shared $key }}{{ $where = printf "config.%s" $key }}{{ end -}}
    {{- if not (or (kindIs "invalid" $given) (eq (toString $given) "")) -}}
      {{- $amount := include (eq $bound.kind "duration" | ternary "carrierarr.milliseconds" "carrierarr.bytes") $given | float64 -}}
      {{- if or (lt $amount $bound.from) (gt $amount $bound.to) -}}
      {{- $problems = append $problems (printf "Expected %s to be %s, got %v." $where $bound.allowed $given) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $problems | uniq | toJson -}}
{{- end }}
