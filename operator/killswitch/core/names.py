"""Names that people and programs meet on objects: the API group, labels, protected namespaces."""

GROUP = "killswitch.dev"
VERSION = "v1alpha1"

ENGAGED_LABEL = f"{GROUP}/engaged"
"""`true` on every Shutdown that locks and every Freeze that holds; the lock and the node guards
select by it, so that what is history costs them nothing."""
GOVERNED_LABEL = f"{GROUP}/governed"
"""`true` on the namespaces (and, while cordoned, nodes) where the admission lock applies."""
POLICY_LABEL = f"{GROUP}/policy"
"""Name of the policy that fired, on Shutdowns, Freezes and their records."""
SHUTDOWN_LABEL = f"{GROUP}/shutdown"
"""Name of the Shutdown that a ShutdownRecord belongs to."""

CUT_KEY = f"{GROUP}/cut"
"""In the selector of a Service that leads nowhere: the uid of the Shutdown that cut it, shortened."""

STOPPED_TAINT = f"{GROUP}/stopped"
"""Key of the `NoExecute` taint of nodes that are stopped; its value names the ClusterShutdown."""
QUARANTINE_TAINT = f"{GROUP}/quarantine"
"""Key of the `NoSchedule` taint of nodes that are kept for forensics."""
FENCE_ANNOTATION = f"{GROUP}/fence-requested"
"""On a node whose pods do not go: the stop that asks the cluster's fencing to act."""

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
"""On a static pod's image in the API: the uid that its kubelet knows it by."""

PROTECTED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "killswitch-system")
"""Never governed, never stopped. The chart replaces the last by its own namespace."""
