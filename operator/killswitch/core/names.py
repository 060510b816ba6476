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
"""In the selector of a Service (or InferencePool) whose traffic is cut: no pod carries this label."""

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
"""On a static pod's image in the API: the uid that its kubelet knows it by."""

PROTECTED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "killswitch-system")
"""Never governed, never stopped. The chart replaces the last by its own namespace."""
