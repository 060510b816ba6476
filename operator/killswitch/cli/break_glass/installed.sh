#!/usr/bin/env bash
# BREAK GLASS: stop everything in one namespace and hold it down.
# Needs killswitch's admission policies and CRDs in the cluster; none of its processes has to run.
# Only bash and kubectl (1.28 or newer). Running it again does no harm.
NS="__NAMESPACE__"
REASON="${REASON:-break-glass stop}"
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
# The API server accepts only your own name here.
ME="$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')" || exit 1
# One lock per day: a second run on the same day finds it, unless people have released it meanwhile.
STOP="${STOP:-break-glass-$(date -u +%Y%m%d)}"

# 1. The lock applies in governed namespaces. A refusal is fine where somebody governed it before.
kubectl label namespace "$NS" killswitch.dev/governed=true --overwrite

# 2. The lock. From its answer on, the API server refuses every start here until 2 people approve.
lock() {
kubectl create -f - <<YAML
apiVersion: killswitch.dev/v1alpha1
kind: Shutdown
metadata:
  name: $STOP
  namespace: $NS
  labels: {killswitch.dev/engaged: "true"}
spec:
  requestedBy: $(quoted "$ME")
  reason: $(quoted "$REASON")
  requiredApprovals: 2
  scope: {wholeNamespace: true}
YAML
}

# Does the lock deny a pod? Only tried, never created.
locked() {
kubectl create --dry-run=server -f - 2>&1 >/dev/null <<YAML | grep -q "held down by"
apiVersion: v1
kind: Pod
metadata: {name: killswitch-probe, namespace: $NS}
spec: {containers: [{name: probe, image: killswitch.invalid/probe}]}
YAML
}

if locked; then
  echo "The lock holds already."
else
  # The label of step 1 takes a moment to reach the API server's admission: ask a few times.
  for attempt in 1 2 3 4 5; do
    lock && break
    kubectl get shutdown "$STOP" -n "$NS" >/dev/null 2>&1 && STOP="$STOP-$(date -u +%H%M%S)"
    sleep 0.5
  done
  for attempt in 1 2 3 4 5 6 7 8 9 10; do locked && break; sleep 0.2; done
fi

# 3. One second of grace, never zero: a forced delete says gone while the process may run on.
kubectl delete pods --all -n "$NS" --grace-period=1 --wait=false

# 4. Look. The last line is the answer.
kubectl wait --for=delete pods --all -n "$NS" --timeout=60s >/dev/null 2>&1
if ! left="$(kubectl get pods -n "$NS" -o wide --no-headers 2>&1)"; then
  echo "NOT VERIFIED: pods cannot be listed: $left"; exit 1
fi
left="$(grep -v '^No resources found' <<<"$left")"
if [ -n "$left" ]; then echo "NOT STOPPED, still there:"; echo "$left"; exit 1; fi
if ! locked; then echo "No pod is left in $NS, but the lock does NOT hold: see the messages above."; exit 1; fi
echo "Stopped and locked: no pod is left in $NS."
echo "The way back: print installed-undo.sh (killswitch break-glass --installed --undo -n $NS)."
