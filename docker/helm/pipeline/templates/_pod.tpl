{{/* The pods of the StatefulSet or the Deployment. */}}
{{- define "pipeline.pod" -}}
metadata:
  labels:
    {{- include "pipeline.labelsWith" (dict "root" . "labels" .Values.podLabels) | nindent 4 }}
  annotations:
    # A changed file is a changed pod.
    checksum/pipeline: {{ .Values.pipeline.file | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pipeline.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # A stop commits what was read; it takes 40 s at most.
  terminationGracePeriodSeconds: 45
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with include "pipeline.pullSecrets" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: pipeline
      image: {{ include "pipeline.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- include "pipeline.args" . | nindent 8 }}
      env:
        {{- include "pipeline.env" . | nindent 8 }}
      ports:
        - name: http
          containerPort: {{ .Values.dashboard.port }}
          protocol: TCP
        {{- if .Values.push.source }}
        - name: push
          containerPort: {{ .Values.push.port }}
          protocol: TCP
        {{- end }}
      startupProbe:
        {{- include "pipeline.probe" (dict "root" . "path" "health") | nindent 8 }}
        periodSeconds: 5
        failureThreshold: {{ .Values.startupProbe.failureThreshold }}
      livenessProbe:
        {{- include "pipeline.probe" (dict "root" . "path" "health") | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 6
      # Not ready: something outside fails, or state is being restored. That is no reason to start again.
      readinessProbe:
        {{- include "pipeline.probe" (dict "root" . "path" "ready") | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 3
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: state
          mountPath: /var/lib/pipeline
        {{- if .Values.pipeline.file }}
        - name: file
          mountPath: /config
          readOnly: true
        {{- end }}
        {{- if .Values.push.source }}
        - name: push-token
          mountPath: /run/push
          readOnly: true
        {{- end }}
        {{- range $i, $name := .Values.secretFiles }}
        - name: secret-{{ $i }}
          mountPath: /run/secrets/{{ $name }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- include "pipeline.volumes" . | nindent 2 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if gt (int .Values.replicas) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "pipeline.selectorLabels" . | nindent 10 }}
  {{- end }}
{{- end -}}

{{- define "pipeline.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "pipeline.args" -}}
- run
- {{ if .Values.pipeline.file }}/config/pipeline.yaml{{ else }}/etc/pipeline/{{ .Values.pipeline.builtIn }}{{ end }}
- --log={{ .Values.pipeline.log }}
- --dashboard={{ if .Values.dashboard.secretName }}0.0.0.0{{ else }}127.0.0.1{{ end }}:{{ .Values.dashboard.port }}
{{- with .Values.pipeline.profile }}
- --profile={{ . }}
{{- end }}
{{- range .Values.staticMembership }}
- --set=sources.{{ . }}.instance=$(POD_NAME)
{{- end }}
{{- range .Values.pipeline.set }}
- {{ printf "--set=%s" . | quote }}
{{- end }}
{{- range .Values.pipeline.args }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "pipeline.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
# In the place of the file's `state:`.
- name: PIPELINE__STATE
  {{- if eq .Values.state.kind "postgres" }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.state.postgres.secretName }}
      key: {{ .Values.state.postgres.secretKey }}
  {{- else }}
  value: /var/lib/pipeline/state
  {{- end }}
{{- with .Values.dashboard.secretName }}
- name: PIPELINE_DASHBOARD_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: token
- name: PIPELINE_ADMIN_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: admin-token
      optional: true
{{- end }}
{{- with include "pipeline.metricsToken" . }}
{{ . }}
{{- end }}
{{- with .Values.push }}
{{- if .source }}
# In the place of what the file says of its source.
- name: PIPELINE__SOURCES__{{ upper .source }}__LISTEN
  value: 0.0.0.0:{{ .port }}
# From a file: the text of a variable would be read as YAML, where brackets and quotes mean something.
- name: PIPELINE__SOURCES__{{ upper .source }}__TOKEN
  value: ${file:/run/push/token}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $from := .Values.secretEnv }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.secretName }}
      key: {{ $from.secretKey }}
{{- end }}
{{- end -}}

{{- define "pipeline.volumes" -}}
volumes:
  {{- if eq .Values.state.kind "postgres" }}
  - name: state
    emptyDir: {}
  {{- end }}
  {{- if .Values.pipeline.file }}
  - name: file
    configMap:
      name: {{ include "pipeline.fullname" . }}
  {{- end }}
  {{- if .Values.push.source }}
  - name: push-token
    secret:
      secretName: {{ .Values.push.secretName }}
      defaultMode: 0440
      items:
        - key: {{ .Values.push.secretKey }}
          path: token
  {{- end }}
  {{- /* A Secret may have dots and 253 characters in its name, a volume may not. */}}
  {{- range $i, $name := .Values.secretFiles }}
  - name: secret-{{ $i }}
    secret:
      secretName: {{ $name }}
      defaultMode: 0440
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
