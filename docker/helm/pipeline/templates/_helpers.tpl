{{/* The name of everything: the release's, with the chart's if that says something else. */}}
{{- define "pipeline.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What finds the pods; it can never change. */}}
{{- define "pipeline.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pipeline.labels" -}}
{{ include "pipeline.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
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
{{- if and .Values.serviceMonitor.enabled (not .Values.dashboard.secretName) -}}
{{- fail "`serviceMonitor` needs `dashboard.secretName`: without it, only the pod itself can reach its metrics" -}}
{{- end -}}
{{- end -}}

{{/* Asks `/health` or `/ready`. Without a token the dashboard is on loopback, where only the pod itself can ask. */}}
{{- define "pipeline.probe" -}}
{{- if .root.Values.dashboard.secretName -}}
httpGet:
  path: /{{ .path }}
  port: http
{{- else -}}
exec:
  command:
    - /usr/bin/pipeline
    - health
    - http://127.0.0.1:{{ .root.Values.dashboard.port }}
    {{- if eq .path "ready" }}
    - --ready
    {{- end }}
{{- end }}
timeoutSeconds: 5
{{- end -}}
