"""The safety kernel: ValidatingAdmissionPolicies generated for the API server.

Nothing of killswitch has to run for these to hold. Each public function of these modules makes
one policy with its binding; the shared pieces of CEL stand in `shape`. What is not obvious says why
there, since nobody can ask the API server. Every rule is proven on a real one in tests/kernel.

The chart replaces the text `killswitch-system` by its own namespace.
"""

from killswitch.api.admission.accounts import (
    account_fighters,
    account_namespaces,
    account_nodes,
    account_selectors,
    accounts,
    pods,
)
from killswitch.api.admission.authors import authors, bypasses, cluster_authors
from killswitch.api.admission.definitions import definitions
from killswitch.api.admission.governed import governed_label, governing, namespaces
from killswitch.api.admission.guards import (
    freeze_status,
    freezes,
    node_guards,
    standing_orders,
)
from killswitch.api.admission.lives import cluster_shutdowns, records, shutdowns
from killswitch.api.admission.lock import cluster_lock, lock, node_lock
from killswitch.api.admission.shape import Json


def manifests() -> list[Json]:
    """Every policy with its binding."""
    return [
        *lock(),
        *cluster_lock(),
        *node_lock(),
        *shutdowns(),
        *cluster_shutdowns(),
        *records(),
        *governing(),
        *governed_label(),
        *namespaces("Shutdown", "namespaces", "true"),
        *namespaces(
            "ClusterShutdown",
            "cluster-namespaces",
            "has(params.spec.namespaces) && request.name in params.spec.namespaces",
        ),
        *definitions(),
        *authors(),
        *cluster_authors(),
        *bypasses(),
        *freezes(),
        *freeze_status(),
        *standing_orders(),
        *node_guards(),
        *accounts(),
        *pods(),
        *account_selectors(),
        *account_fighters(),
        *account_namespaces(),
        *account_nodes(),
    ]
