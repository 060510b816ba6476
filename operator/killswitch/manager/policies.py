"""Accept or refuse a policy, govern its namespaces, and say whether it is armed and fired.

Armed claims that the policy would act. So it takes the policy itself (Ready, Enforce), a lock that
has been proven lately, and a reactor that has reported on this generation of the policy lately, and
not that it could not act. A policy that would react too late (Timely=False) is armed all the same:
late is better than never.
"""

from collections.abc import Iterable

from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy
from killswitch.api.policies import Mode
from killswitch.core import conditions, containment, durations, kinds, times
from killswitch.core.catalogue import Catalogue
from killswitch.core.conditions import PolicyCondition, Reason
from killswitch.core.errors import (
    InvalidPolicyError,
    KillSwitchError,
    NotFoundError,
    RefusedError,
)
from killswitch.core.interlocks import Cause
from killswitch.core.kinds import TABLE
from killswitch.core.names import ENGAGED_LABEL
from killswitch.core.reaction import PolicyReaction, timely
from killswitch.core.resources import (
    BYPASSES,
    CLUSTER_SHUTDOWNS,
    FREEZES,
    PODS,
    SHUTDOWNS,
)
from killswitch.manager import freezable, losses, reactions, standing, targets
from killswitch.manager.armed import Proof
from killswitch.manager.govern import govern, governed
from killswitch.manager.guards import Guards
from killswitch.manager.news import PolicyNews
from killswitch.manager.places import Places
from killswitch.manager.reactions import Reactions
from killswitch.manager.rounds import Key
from killswitch.manager.standing import StandingOrders
from killswitch.manager.status import Judgement, StatusWriter
from killswitch.manager.targets import Targets
from killswitch.manager.unseen import Sight
from killswitch.ports import Clock, Cluster, Json, QueryChecker
from killswitch.settings import Settings

_AGAIN, _SOON = 30.0, 5.0
"""Seconds until a refused policy is judged again: its cure may lie outside of it. Governing a
namespace is the cure that somebody is waiting for."""
_PODS = "are the reactor's pods running?"
_SILENT = 150.0
"""Seconds without a word after which no reactor counts as watching; it writes once a minute."""
_CANNOT = {Cause.REFUSED, Cause.DEFECT}
"""Causes of Inhibited that are nobody's decision: the policy would not act, whatever it demands."""


class Policies:
    """The flow for both policy kinds."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        checker: QueryChecker,
        reactions: Reactions,
        settings: Settings,
        *,
        guards: Guards,
        places: Places,
        reactor: str = "",
    ) -> None:
        """`proof` is replaced by whoever tries the lock. `reactor` is the username of its account."""
        self._guards = guards
        self._standing = StandingOrders(cluster)
        self._places = places
        self._sight = Sight(cluster, clock, reactor)
        self._cluster = cluster
        self._clock = clock
        self._checker = checker
        self._reactions = reactions
        self._settings = settings
        self._writer = StatusWriter(cluster, clock)
        self._news = PolicyNews(cluster, clock)
        self.proof: Proof | None = None

    async def look(self, key: Key) -> float | None:
        """Judge one policy; seconds until it should be judged again."""
        try:
            body = await self._cluster.get(key.resource, key.name, key.namespace)
        except NotFoundError:
            self._reactions.forget(key)
            self._standing.forget(key)
            return None
        accepted = self._accepted(body)
        ready = await self._ready(body, accepted)
        judgements = [ready, self._armed(body, ready), await self._fired(body)]
        reaction = self._reaction(key, accepted, body)
        within = body["spec"].get("reactWithin")
        if reaction is not None and within is not None:
            judgements.append(timely(reaction, durations.seconds(within)))
        found = await self._targets(accepted)
        if not isinstance(accepted, InvalidPolicyError) and freezable.asks(accepted):
            judgements.append(freezable.judge(accepted, found, self._guards))
        about = {**body, "kind": key.resource.kind, "apiVersion": key.resource.api_version}
        await self._news.tell(about, judgements)
        generation = body["metadata"].get("generation", 0)
        await self._writer.write(
            key.resource,
            body,
            judgements,
            observedGeneration=generation,
            reaction=None if reaction is None else reactions.status(reaction),
        )
        await self._order(key, body, accepted, ready, found)
        if ready[1]:
            return None if judgements[-1][2] != Reason.FREEZE_UNKNOWN else _SOON
        return _SOON if ready[2] == Reason.UNGOVERNED else _AGAIN

    def _accepted(self, body: Json) -> CompiledPolicy | InvalidPolicyError:
        try:
            return accept(body, self._checker.check)
        except InvalidPolicyError as error:
            return error

    async def _targets(self, policy: CompiledPolicy | InvalidPolicyError) -> Targets | None:
        """What it is about now, where that matters to node guards; None where it is not known."""
        if isinstance(policy, InvalidPolicyError) or not freezable.asks(policy):
            return None
        try:
            found = await targets.look(self._places, policy, self._settings.protected)
        except KillSwitchError:  # the next round asks again
            return None
        named = {query.kind for query in policy.queries} | {PODS.kind}
        return None if named & found.unseen.keys() else found

    async def _order(
        self,
        key: Key,
        body: Json,
        policy: CompiledPolicy | InvalidPolicyError,
        ready: Judgement,
        found: Targets | None,
    ) -> None:
        """Let its standing orders be what it wants now, unless nobody knows what that is."""
        if (
            isinstance(policy, InvalidPolicyError)
            or not ready[1]
            or not standing.wants(policy)
            or (found is not None and found.beyond is not None)
            or await self._bypassed(policy)
        ):
            await self._standing.withdraw(key, body["metadata"]["uid"])
        elif found is not None:
            await self._standing.keep(key, policy, found)

    async def _bypassed(self, policy: CompiledPolicy) -> bool:
        """Whether people suspend it now: then nothing of it is carried out, on no node either."""
        now, home = self._clock.now(), policy.namespace or self._settings.namespace
        return any(
            each["spec"]["policy"] == policy.name and times.seconds(each["spec"]["until"]) > now
            for each in (await self._cluster.list(BYPASSES, home)).items
        )

    def _reaction(
        self, key: Key, policy: CompiledPolicy | InvalidPolicyError, body: Json
    ) -> PolicyReaction | None:
        """How long it would take to decide; None where it is not accepted or not looked up yet."""
        if isinstance(policy, InvalidPolicyError):
            self._reactions.forget(key)
            return None
        return self._reactions.of(key, policy, reactions.states(body))

    async def _ready(self, body: Json, policy: CompiledPolicy | InvalidPolicyError) -> Judgement:
        type_ = PolicyCondition.READY
        if isinstance(policy, InvalidPolicyError):
            return (type_, False, Reason.INVALID, str(policy))
        try:
            self._check_protected(policy)
            unseen = await self._unseen(policy)
            kinds_named = {query.kind for query in policy.queries}
            if kinds_named and unseen.keys() >= kinds_named:
                return (type_, False, Reason.KIND_UNSEEN, "; ".join(unseen.values())[:2000])
            await self._check_losses(body, policy)
            await self._govern(policy)
        except losses.LossError as error:
            return (type_, False, error.reason, str(error))
        except InvalidPolicyError as error:
            return (type_, False, Reason.INVALID, str(error))
        except (NotFoundError, RefusedError) as error:
            return (type_, False, Reason.UNGOVERNED, str(error))
        apart = _not_followed(kinds_named - unseen.keys())
        if unseen:
            seen = ", ".join(sorted(kinds_named - unseen.keys()))
            words = f"the policy can work for {seen}, not wholly: {'; '.join(unseen.values())}"
            return (type_, True, Reason.ACCEPTED, f"{words}{apart}"[:2000])
        return (type_, True, Reason.ACCEPTED, f"the policy can work as written{apart}")

    async def _unseen(self, policy: CompiledPolicy) -> dict[str, str]:
        """The kinds of its targets that cannot be stopped or seen, each with the reason and the cure."""
        named = {query.kind for query in policy.queries} - kinds.NO_KINDS
        everywhere = Catalogue.built_in()
        beyond = named - everywhere.kinds.keys()
        catalogue = await self._places.catalogue(named) if beyond else everywhere
        return {
            name: words
            for name in sorted(named)
            if (words := await self._sight.problem(name, catalogue.find(name)))
        }

    def _check_protected(self, policy: CompiledPolicy) -> None:
        for namespace in _places(policy):
            if namespace in self._settings.protected:
                raise InvalidPolicyError(
                    "spec.targets", f"namespace {namespace} is protected", "name another namespace"
                )

    async def _check_losses(self, body: Json, policy: CompiledPolicy) -> None:
        """Refuse what would lose data that nobody has accepted to lose, when the generation is new.

        Once accepted, a policy is not disarmed by a workload that appears later: else making one
        would be a way of disarming.
        """
        observed = body.get("status", {}).get("conditions", ())
        before = conditions.find(observed, PolicyCondition.READY)
        generation = body["metadata"].get("generation", 0)
        if before and before["status"] == "True" and before["observedGeneration"] == generation:
            return
        if policy.accept_loss or policy.node_action:
            return
        losses.refuse_named(policy)
        losses.refuse_found(await targets.look(self._places, policy, self._settings.protected))

    async def _govern(self, policy: CompiledPolicy) -> None:
        """Govern the policy's namespaces, or refuse it where that is left to people."""
        for namespace in _places(policy):
            listed = namespace in self._settings.governed_namespaces
            if self._settings.govern_automatically or listed:
                await govern(self._cluster, namespace)
            elif not await governed(self._cluster, namespace):
                raise RefusedError(
                    f"namespace {namespace} is not governed, so nothing would hold there and the"
                    f" reactor leaves it alone; kubectl killswitch govern {namespace}"
                )

    def _armed(self, body: Json, ready: Judgement) -> Judgement:
        mode = body["spec"].get("mode", Mode.DRY_RUN)
        type_ = PolicyCondition.ARMED
        if mode != Mode.ENFORCE:
            reason = Reason.DISABLED if mode == Mode.DISABLED else Reason.DRY_RUN
            return (type_, False, reason, f"mode is {mode}: it does not act")
        if not ready[1]:
            return (type_, False, Reason.NOT_READY, _unready(ready))
        if self.proof is None:
            return (type_, None, Reason.LOCK_NOT_PROVEN, "the lock has not been tried yet")
        if not self.proof.denied:
            return (type_, False, Reason.LOCK_NOT_PROVEN, self.proof.message[:1000])
        if silence := _silence(body, self._clock.now()):
            return (type_, False, Reason.REACTOR_SILENT, silence)
        if hindrance := _hindrance(body):
            return (type_, False, *hindrance)
        return (type_, True, Reason.LOCK_PROVEN, self.proof.message[:1000])

    async def _fired(self, body: Json) -> Judgement:
        found: list[str] = []
        for resource in (SHUTDOWNS, CLUSTER_SHUTDOWNS):
            namespace = body["metadata"].get("namespace", "")
            if resource is CLUSTER_SHUTDOWNS and namespace:
                continue
            items = (
                await self._cluster.list(resource, namespace, labels=f"{ENGAGED_LABEL}=true")
            ).items
            uid = body["metadata"]["uid"]
            found += [
                each["metadata"]["name"]
                for each in items
                if (each["spec"].get("policy") or {}).get("uid") == uid
            ]
        if found:
            message = f"engaged: {', '.join(sorted(set(found)))}"
            return (PolicyCondition.FIRED, True, Reason.ENGAGED, message)
        if frozen := await self._frozen(body):
            message = f"no Shutdown is engaged; frozen by {', '.join(frozen)}"
            return (PolicyCondition.FIRED, False, Reason.FREEZE_IN_FORCE, message)
        return (PolicyCondition.FIRED, False, Reason.IDLE, "nothing is engaged")

    async def _frozen(self, body: Json) -> list[str]:
        """The policy's Freezes in force, with their ends."""
        namespace, uid = body["metadata"].get("namespace", ""), body["metadata"]["uid"]
        try:
            stored = await self._cluster.list(FREEZES, namespace, labels=f"{ENGAGED_LABEL}=true")
        except (NotFoundError, RefusedError):
            return []  # no such kind or right, so none of ours
        return sorted(
            {
                f"{each['metadata']['name']} until {each['spec']['until']}"
                for each in stored.items
                if (each["spec"].get("policy") or {}).get("uid") == uid
                and containment.freeze_in_force(each)
            }
        )


def _not_followed(named: Iterable[str]) -> str:
    """Which of these kinds are run by what serves others too, to be added to a sentence; empty: none."""
    ties = {each: TABLE[each].tie for each in sorted(named) if each in TABLE}
    return "".join(
        f"; a {name} does not own its pods, and the {tie.host} that runs it may run others: its stop is"
        f" not verified (PodsNotKnown) unless that {tie.host} is a target too"
        for name, tie in ties.items()
        if tie is not None and tie.host
    )


def _unready(ready: Judgement) -> str:
    """Why a policy that is not Ready is not armed; never that it is harmless where it is not."""
    if ready[2] in {Reason.DATA_LOSS, Reason.LOSS}:
        still = losses.HOLDS if ready[2] == Reason.DATA_LOSS else losses.STILL
        return f"the policy is not Ready, yet not harmless: {still}"
    return "the policy is not Ready"


def _silence(body: Json, now: float) -> str:
    """Why no reactor counts as watching this policy; empty when one does.

    `observedAt` is the reactor's clock and `now` the manager's: only minutes matter here.
    """
    status = body.get("status", {})
    seen = conditions.find(status.get("conditions", ()), PolicyCondition.SIGNALS_AVAILABLE)
    moments = [each["observedAt"] for each in status.get("signals", ()) if each.get("observedAt")]
    if seen is None or seen["observedGeneration"] != body["metadata"]["generation"] or not moments:
        return f"no reactor has looked at this generation of the policy yet; {_PODS}"
    latest = max(moments, key=times.seconds)
    if now - times.seconds(latest) > _SILENT:
        return f"no reactor has reported since {latest}: nobody watches the signals; {_PODS}"
    return ""


def _hindrance(body: Json) -> tuple[str, str] | None:
    """Why the policy could not act when its reactor last looked; what people decided is none."""
    observed = body.get("status", {}).get("conditions", ())
    found = conditions.find(observed, PolicyCondition.INHIBITED)
    if found is None or found["status"] != "True" or found["reason"] not in _CANNOT:
        return None
    return found["reason"], f"the reactor could not act: {found['message']}"[:1000]


def _places(policy: CompiledPolicy) -> Iterable[str]:
    return dict.fromkeys(query.namespace for query in policy.queries if query.namespace)
