"""Why a stop cannot be, and the cure that fits its scope: never a wider stop than was asked for."""

import json
import shlex

from killswitch.access import allowed
from killswitch.api import orders
from killswitch.api.orders import Order, Terms
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.observe import Observed
from killswitch.cli.problems import PROGRAM, Problem, said
from killswitch.cli.render import told
from killswitch.cli.scope import Scope, kind_name
from killswitch.core.errors import RefusedError, ServerError
from killswitch.core.resources import NODES, PODS
from killswitch.core.stops import Plan, Refusal, Stop


def without(scope: Scope, namespace: str) -> str:
    """The command that stops this scope with plain kubectl and no lock that people hold."""
    if scope.nodes:
        return f"kubectl cordon {' '.join(map(shlex.quote, scope.nodes))}"
    return f"{PROGRAM} break-glass --bare -n {namespace}"


def no_kernel(scope: Scope, namespace: str, lacking: str) -> Problem:
    """Nothing could hold: nothing is changed."""
    cure = f"stop without it: {without(scope, namespace)}; to have the lock, install killswitch"
    return Problem(f"stop {scope}", f"{lacking}. Nothing was changed", cure)


def failed(scope: Scope, namespace: str, error: ServerError) -> Problem:
    """The API server answered 5xx before the lock was confirmed."""
    why = (
        f"the API server answered, but with an error of its own: {error}. "
        "As far as known nothing was locked"
    )
    cure = (
        f"stop with plain kubectl: {without(scope, namespace)}; "
        "a webhook named above may be down or wrong"
    )
    return Problem(f"stop {scope}", why, cure, ExitCode.REFUSED)


def refused(order: Order, error: RefusedError, observed: Observed) -> Problem:
    """The Shutdown was not let in."""
    what = f"create {order.resource.kind} {order.name}"
    place = f" -n {order.namespace}" if order.namespace else ""
    touched = "nothing was touched"
    if order.namespace in observed.ungoverned:
        touched = f"nothing was stopped; namespace {order.namespace} is governed now"
    why = f"{said(error)}. Nothing was locked and {touched}"
    check = f"kubectl auth can-i create {order.resource.plural}.{order.resource.group}{place}"
    nodes = tuple(node.name for stop in order.stops for node in stop.nodes)
    bare = f"or stop with the rights that you have: {without(Scope(nodes=nodes), order.namespace)}"
    cure = f"see whether you may: {check}; {bare}"
    if order.namespace in observed.assumed:
        cure = f"is it governed? If not: {PROGRAM} govern {order.namespace}; {cure}"
    return Problem(what, why, cure, ExitCode.REFUSED)


async def nothing(
    session: Session, scope: Scope, plan: Plan, observed: Observed, *, name: str, terms: Terms
) -> Problem:
    """The plan is empty: it could not be looked, or nothing matches."""
    what = f"stop {scope}"
    protected = any(each.reason is Refusal.PROTECTED for each in plan.refused)
    if not protected and _blind(scope, observed):
        why = "; ".join(observed.unseen)
        cure = (
            await _for_nodes(session, scope)
            if scope.nodes
            else _by_name(scope, session.namespace, observed, name=name, terms=terms)
        )
        return Problem(what, why, cure, ExitCode.REFUSED)
    why = "; ".join(told(each) for each in plan.refused) or "nothing matches"
    look = "kubectl get nodes" if scope.nodes else f"{PROGRAM} plan --all -n {session.namespace}"
    if any(
        observed.catalogue.find(kind_name(each, observed.catalogue)) is None
        for each in scope.workloads
    ):  # no such kind
        look = "kubectl api-resources --namespaced"
    return Problem(what, why, f"see what is there: {look}")


def _blind(scope: Scope, observed: Observed) -> bool:
    """Whether a list in which the named things would stand could not be read."""
    named = (kind_name(each, observed.catalogue) for each in scope.workloads)
    found = (observed.catalogue.find(each) for each in named)
    keys = {each.resource.key for each in found if each is not None}
    keys |= {PODS.key} if scope.image else set()
    keys |= {NODES.key} if scope.nodes else set()
    return bool(keys & observed.hidden.keys())


async def _for_nodes(session: Session, scope: Scope) -> str:
    cordon = without(scope, "")
    if await allowed(session.cluster, "patch", NODES, scope.nodes[0]):
        return (
            f"cordon without a lock that people hold: {cordon}; "
            "to hold it too, have the right to list nodes (kubectl auth can-i list nodes)"
        )
    return (
        f"someone who may patch nodes runs: {cordon}; you lack list nodes and patch nodes "
        "(kubectl auth can-i patch nodes)"
    )


def _by_name(scope: Scope, namespace: str, observed: Observed, *, name: str, terms: Terms) -> str:
    """A lock needs no list; a name is enough for it, and the operator does the rest."""
    if scope.image:
        return (
            "which pods have that image is not known without a list: someone who may list pods runs"
            f" the same; or name their workloads: {PROGRAM} stop -w KIND/NAME -n {namespace} --reason …"
        )
    locks = {}
    for each in scope.workloads:
        kind = observed.catalogue.find(kind_name(each, observed.catalogue))
        key = each.kind if kind is None else kind.resource.key
        locks[f"{key}/{each.name}"] = f"{each.kind}/{each.name}"[:64]
    (order,) = orders.for_stops(name, [Stop(namespace, locks=locks)], terms)
    body = shlex.quote(json.dumps(order.body, ensure_ascii=False))
    return (
        "lock it by its name without looking (check the spelling; what runs is ended by an "
        f"operator, or by someone who may delete pods): printf %s {body} | kubectl create -f -"
    )
