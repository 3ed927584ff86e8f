{{- define "pipeline.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of everything: the release's, with the chart's if that says something else. */}}
{{- define "pipeline.fullname" -}}
{{- $name := include "pipeline.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What finds the pods; it can never change. */}}
{{- define "pipeline.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pipeline.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "pipeline.labels" -}}
{{ include "pipeline.labelsWith" (dict "root" . "labels" dict) }}
{{- end -}}

{{/* The same with more of them, which go before those for every object. */}}
{{- define "pipeline.labelsWith" -}}
{{- $root := .root -}}
{{ include "pipeline.selectorLabels" $root }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with merge dict .labels $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pipeline.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pipeline.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "pipeline.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* What cannot work, in words. */}}
{{- define "pipeline.check" -}}
{{- $shared := eq .Values.state.kind "postgres" -}}
{{- if and (gt (int .Values.replicas) 1) (not $shared) -}}
{{- fail "`replicas` is above 1, so the pods must share their state: set `state.kind` to `postgres`" -}}
{{- end -}}
{{- if and (eq .Values.workload "Deployment") (not $shared) -}}
{{- fail "a Deployment has no volume of its own: set `state.kind` to `postgres`" -}}
{{- end -}}
{{- if and $shared (not .Values.state.postgres.secretName) -}}
{{- fail "`state.postgres.secretName` is missing: the Secret that holds the URL of the database" -}}
{{- end -}}
{{- if and .Values.push.source (not .Values.push.secretName) -}}
{{- fail "`push.secretName` is missing: the Secret that holds the token of those who post; without one the source listens to its own machine alone" -}}
{{- end -}}
{{- if and .Values.push.source (gt (int .Values.replicas) 1) -}}
{{- fail "`push.source` takes rows in one pod: set `replicas` to 1, or let others read the rows from a topic" -}}
{{- end -}}
{{- if and .Values.push.source (eq (int .Values.push.port) (int .Values.dashboard.port)) -}}
{{- fail "`push.port` is the port of the dashboard" -}}
{{- end -}}
{{- range $name := list "PIPELINE_METRICS_TOKEN" "PIPELINE_METRICS_TOKEN_FILE" -}}
{{- if or (hasKey (default dict $.Values.env) $name) (hasKey (default dict $.Values.secretEnv) $name) -}}
{{- fail (printf "the probes would not know of `%s`: set `dashboard.metricsSecretName`" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.dashboard.secretName) -}}
{{- fail "`serviceMonitor` needs `dashboard.secretName`: without it, only the pod itself can reach its metrics" -}}
{{- end -}}
{{- end -}}

{{/* The token of `/metrics`, `/health` and `/ready`, for whoever asks with the binary. */}}
{{- define "pipeline.metricsToken" -}}
{{- with .Values.dashboard.metricsSecretName -}}
- name: PIPELINE_METRICS_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.dashboard.metricsSecretKey }}
{{- end -}}
{{- end -}}

{{/* Asks `/health` or `/ready`. Only the pod itself can ask where they want a token, which a node does not have, and where
the dashboard is on loopback, as it is without its Secret. */}}
{{- define "pipeline.probe" -}}
{{- $dashboard := .root.Values.dashboard -}}
{{- if and $dashboard.secretName (not $dashboard.metricsSecretName) -}}
httpGet:
  path: /{{ .path }}
  port: http
{{- else -}}
exec:
  command:
    - /usr/bin/pipeline
    - health
    - http://127.0.0.1:{{ $dashboard.port }}
    {{- if eq .path "ready" }}
    - --ready
    {{- end }}
{{- end }}
timeoutSeconds: 5
{{- end -}}
