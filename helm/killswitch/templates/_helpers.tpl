{{/* Labels of every object; `component` is given as the second element of a list. */}}
{{- define "killswitch.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: killswitch
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: killswitch
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* The annotation of what outlives `helm uninstall` so that nothing is released by it. */}}
{{- define "killswitch.kept" -}}
{{- if .Values.admission.keepOnUninstall -}}
annotations:
  helm.sh/resource-policy: keep
{{- end }}
{{- end }}

{{/* Labels that select the pods of one component: they never change over upgrades. */}}
{{- define "killswitch.selector" -}}
app.kubernetes.io/name: killswitch
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "killswitch.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/*
Generated manifests name the default namespace; the release's own takes its place. It is the last one in
every list of protected namespaces: those that the values add follow it, in both of YAML's quotings.
*/}}
{{- define "killswitch.file" -}}
{{- $root := index . 0 -}}
{{- $own := $root.Release.Namespace -}}
{{- $text := $root.Files.Get (index . 1) | replace "killswitch-system" $own -}}
{{- range without $root.Values.protectedNamespaces "kube-system" "kube-public" "kube-node-lease" $own -}}
{{- $text = $text | replace (printf "'%s']" $own) (printf "'%s', '%s']" . $own) -}}
{{- $text = $text | replace (printf "''%s'']" $own) (printf "''%s'', ''%s'']" . $own) -}}
{{- end -}}
{{- $text -}}
{{- end }}

{{/* Namespaces to be governed, as JSON; a protected one among them is an error. */}}
{{- define "killswitch.governed" -}}
{{- range .Values.governedNamespaces -}}
{{- if or (eq . $.Release.Namespace) (has . $.Values.protectedNamespaces) -}}
{{- fail (printf "governedNamespaces names %q, which is protected: nothing is governed or stopped there" .) -}}
{{- end -}}
{{- end -}}
{{- .Values.governedNamespaces | toJson -}}
{{- end }}

{{/* The settings of both processes, as operator/killswitch/settings.py reads them. */}}
{{- define "killswitch.env" -}}
- name: KILLSWITCH_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: KILLSWITCH_PROTECTED_NAMESPACES
  value: {{ .Values.protectedNamespaces | toJson | quote }}
- name: KILLSWITCH_API_SERVERS
  value: {{ .Values.apiServers | toJson | quote }}
- name: KILLSWITCH_PROMETHEUS_URL
  value: {{ .Values.prometheus.url | quote }}
- name: KILLSWITCH_PROMETHEUS_TIMEOUT
  value: {{ .Values.prometheus.timeout | quote }}
- name: KILLSWITCH_POLL_INTERVAL
  value: {{ .Values.pollInterval | quote }}
- name: KILLSWITCH_GOVERN_AUTOMATICALLY
  value: {{ .Values.governAutomatically | quote }}
- name: KILLSWITCH_GOVERNED_NAMESPACES
  value: {{ include "killswitch.governed" . | quote }}
- name: KILLSWITCH_CANARY_NAMESPACE
  value: {{ .Values.canary.namespace | quote }}
- name: KILLSWITCH_ARMED_INTERVAL
  value: {{ .Values.canary.armedInterval | quote }}
{{- if .Values.metrics.enabled }}
- name: KILLSWITCH_METRICS_LISTEN
  value: {{ printf "0.0.0.0:%d" (int .Values.metrics.port) | quote }}
{{- end }}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/*
The pod of one component: restricted in the sense of the Pod Security Standards, read-only root.
Takes a dict of root, component, values, env (a list of maps beside the common ones) and, where the component
listens, ports and secrets (a dict of volume to Secret, mounted below /etc/killswitch).
*/}}
{{- define "killswitch.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "killswitch.labels" (list $root .component) | nindent 4 }}
  {{- with .values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: killswitch-{{ .component }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- if .values.replicas }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "killswitch.selector" .component | nindent 16 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "killswitch.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: ["killswitch", {{ .component | quote }}]
      env:
        {{- include "killswitch.env" $root | nindent 8 }}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- $ports := .ports | default list }}
      {{- if $root.Values.metrics.enabled }}
      {{- $ports = append $ports (dict "name" "metrics" "containerPort" (int $root.Values.metrics.port)) }}
      # Only a process that answers nothing for a minute is restarted: an API server that is away, or a
      # Prometheus, is no reason to, since a restart would cure neither.
      livenessProbe:
        httpGet:
          path: /healthz
          port: metrics
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: metrics
        periodSeconds: 5
        timeoutSeconds: 2
      {{- end }}
      {{- with $ports }}
      ports:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- range $name, $_ := .secrets }}
        - name: {{ $name }}
          mountPath: /etc/killswitch/{{ $name }}
          readOnly: true
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 16Mi
    {{- range $name, $secret := .secrets }}
    - name: {{ $name }}
      secret:
        secretName: {{ $secret }}
    {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Rights over kinds of workloads: those that the operator knows (generated), and what `kinds.extra` adds. */}}
{{- define "killswitch.rights" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{ $root.Files.Get (printf "files/rights/%s.yaml" $role) | trim }}
{{- range $root.Values.kinds.extra }}
- apiGroups: [{{ .group }}]
  resources: [{{ .resource }}]
  verbs: [get, list, watch]
- apiGroups: [{{ .group }}]
  resources: [{{ .resource }}/scale]
  verbs: [{{ eq $role "responder" | ternary "get, patch" "patch" }}]
# Where its count stands.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [{{ .resource }}.{{ .group }}]
  verbs: [get]
{{- end }}
{{- end }}
