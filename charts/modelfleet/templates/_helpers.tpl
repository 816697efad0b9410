{{/* The release's name for namespaced objects and, where it is unique in the cluster, for the others. */}}
{{- define "modelfleet.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "modelfleet.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* managed-by names Helm: "modelfleet" there marks what the operator itself has made. */}}
{{- define "modelfleet.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image reference: (dict "image" .Values.….image "root" $) */}}
{{- define "modelfleet.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* The operator's user name, as the API server sees it. */}}
{{- define "modelfleet.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "modelfleet.fullname" . }}
{{- end -}}

{{/* The Service by which training pods reach the leader, and the Secret with its certificate. */}}
{{- define "modelfleet.progress" -}}
{{ include "modelfleet.fullname" . }}-progress
{{- end -}}

{{/* The operator's configuration file; modelfleet/settings.py says what each field means. */}}
{{- define "modelfleet.config" -}}
{{- $operator := .Values.operator -}}
{{- $progress := ternary (include "modelfleet.progress" .) "" .Values.progress.enabled -}}
{{- toYaml (dict
  "installationName" (printf "%s/%s" .Release.Namespace .Release.Name)
  "namespace" .Release.Namespace
  "runtimeImage" (include "modelfleet.image" (dict "image" .Values.runtime.image "root" .))
  "imagePullPolicy" .Values.runtime.image.pullPolicy
  "imagePullSecrets" .Values.runtime.imagePullSecrets
  "nodePools" .Values.nodePools
  "traffic" (dict "istio" .Values.traffic.istio.enabled "gatewayAPI" .Values.traffic.gatewayAPI.enabled "probeAddresses" .Values.traffic.probeAddresses)
  "verification" .Values.verification
  "channels" .Values.channels
  "analysis" .Values.analysis
  "progress" (ternary (dict "service" $progress "secret" $progress) (dict) .Values.progress.enabled)
  "lease" (merge (dict "name" (include "modelfleet.fullname" .)) $operator.lease)
  "workers" $operator.workers
  "resyncSeconds" $operator.resyncSeconds
  "auditSeconds" $operator.auditSeconds
  "sweepIntervalSeconds" $operator.sweepIntervalSeconds
  "logFormat" $operator.logFormat
  "logLevel" $operator.logLevel
) -}}
{{- end -}}
