#!/usr/bin/env bash
# THE WAY BACK from a break-glass stop with killswitch's policies installed. Two people run it, not the
# one who stopped. The API server counts; the second run releases.
#
# Careful: this stop has scaled nothing. Start killswitch's operator BEFORE the second approval: it records
# the replica counts, brings the workloads to rest and restores them in stages. Without an operator every
# workload starts by itself, all at once, at the second approval.
NS="__NAMESPACE__"
REASON="${REASON:-reviewed, safe to run again}"
# A string in double quotes, as YAML and JSON read it, whatever stands in it.
quoted() {
  local text=$1 back='\' quote='"'
  text=${text//"$back"/"$back$back"}
  text=${text//"$quote"/"$back$quote"}
  text=${text//$'\n'/"${back}n"}
  text=${text//$'\r'/"${back}r"}
  text=${text//$'\t'/"${back}t"}
  printf '"%s"' "$text"
}
ME="$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')" || exit 1
failed=0
for STOP in $(kubectl get shutdowns.killswitch.dev -n "$NS" -l killswitch.dev/engaged=true -o name); do
  case "$STOP" in */break-glass-*) ;; *) continue ;; esac
  kubectl patch "$STOP" -n "$NS" --type=merge \
    -p "{\"spec\":{\"approvals\":{$(quoted "$ME"):{\"reason\":$(quoted "$REASON")}}}}" || failed=1
done
kubectl get shutdowns.killswitch.dev -n "$NS"
exit "$failed"
