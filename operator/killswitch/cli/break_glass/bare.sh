#!/usr/bin/env bash
# BREAK GLASS: stop everything in one namespace of a cluster that has nothing of killswitch.
# Only bash and kubectl. Running it again does no harm: the counts are written once.
# Whoever may change quotas in the namespace can undo it: this lock is not held by several people.
NS="__NAMESPACE__"
COUNTS="${COUNTS:-counts-$NS.sh}"

# 1. The lock: not one pod more.
kubectl apply -n "$NS" -f - <<YAML
apiVersion: v1
kind: ResourceQuota
metadata: {name: killswitch-break-glass}
spec: {hard: {pods: "0"}}
YAML

# 2. The processes, before the scaling: a controller's own delete could give them 30 s or more.
#    One second of grace, never zero: a forced delete says gone while the process may run on.
kubectl delete pods --all -n "$NS" --grace-period=1 --wait=false

# 3. What was there, as commands that bring it back. Keep this file.
if [ ! -s "$COUNTS" ]; then
  kubectl get deployments,statefulsets -n "$NS" -o jsonpath='{range .items[*]}kubectl scale -n {.metadata.namespace} {.kind}/{.metadata.name} --replicas={.spec.replicas}{"\n"}{end}' >"$COUNTS"
fi

# 4. Rest. A StatefulSet that would delete its volumes when scaled (whenScaled: Delete) keeps its count:
#    the quota holds it down just as well.
if [ -s "$COUNTS" ]; then
  kubectl scale deployments --all --replicas=0 -n "$NS"
  kubectl get statefulsets -n "$NS" -o jsonpath='{range .items[*]}{.metadata.name} {.spec.persistentVolumeClaimRetentionPolicy.whenScaled}{"\n"}{end}' |
    while read -r name kept; do
      [ "$kept" = Delete ] || kubectl scale statefulset "$name" --replicas=0 -n "$NS" </dev/null
    done
fi

# 5. What slipped in before the quota counted, then look. The last line is the answer.
kubectl delete pods --all -n "$NS" --grace-period=1 --wait=false >/dev/null
kubectl wait --for=delete pods --all -n "$NS" --timeout=60s >/dev/null 2>&1
if ! left="$(kubectl get pods -n "$NS" -o wide --no-headers 2>&1)"; then
  echo "NOT VERIFIED: pods cannot be listed: $left"; exit 1
fi
left="$(grep -v '^No resources found' <<<"$left")"
if [ -n "$left" ]; then echo "NOT STOPPED, still there:"; echo "$left"; exit 1; fi
echo "Stopped: no pod is left in $NS. The counts are in $COUNTS."
