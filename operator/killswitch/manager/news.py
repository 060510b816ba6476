"""What people are told about a policy, by Events: each once, when it begins.

The manager judges `Ready`, `Armed`, `Fired`, `Timely` and `Freezable`; `Inhibited`, `SignalsAvailable`
and the readings are the reactor's words, read from the status. An occurrence is known by the time of its
transition, so a manager that starts anew tells nothing twice while the Event lives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from killswitch.core import conditions
from killswitch.core.conditions import PolicyCondition, Reason
from killswitch.core.readings import Blindness, Verdict
from killswitch.manager import events
from killswitch.manager.status import Judgement
from killswitch.ports import Clock, Cluster, Json


@dataclass(frozen=True, slots=True)
class News:
    """One Event to be told."""

    reason: str
    message: str
    occurrence: str
    """Told once for each."""
    warning: bool = True


class PolicyNews:
    """Tells people, and remembers what it has told to spare the API server the repetition."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        """Nothing has been told."""
        self._cluster = cluster
        self._clock = clock
        self._told: dict[str, set[News]] = {}

    async def tell(self, body: Json, judgements: Sequence[Judgement]) -> None:
        """Tell what is new about this policy, given what the manager judges of it now."""
        uid = body["metadata"]["uid"]
        before, now = self._told.get(uid, set()), set(of(body, judgements))
        known = {(each.reason, each.occurrence) for each in before}
        for each in now:
            if (each.reason, each.occurrence) not in known:
                await events.tell(
                    self._cluster,
                    self._clock,
                    body,
                    each.reason,
                    each.message,
                    warning=each.warning,
                    occurrence=each.occurrence,
                )
        self._told[uid] = now


def of(body: Json, judgements: Sequence[Judgement]) -> Iterator[News]:
    """What there is to tell about a policy as it stands, told before or not."""
    observed = body.get("status", {}).get("conditions", ())
    for type_, value, reason, message in judgements:
        before = conditions.find(observed, type_)
        was = before["status"] if before else "Unknown"
        since = before["lastTransitionTime"] if before else ""
        match type_:
            case PolicyCondition.READY if not value:
                yield News(reason, message, message)
            case PolicyCondition.ARMED if value is False and was == "True":
                yield News(reason, f"no longer armed: {message}", since)
            case PolicyCondition.FIRED if value and was != "True":
                yield News("Fired", message, message)
            case PolicyCondition.TIMELY | PolicyCondition.FREEZABLE if value is False:
                generation = body["metadata"].get("generation", 0)
                yield News(reason, message, f"{type_}/{generation}/{reason}")
            case _:
                pass
    yield from _of_reactor(body)


def _of_reactor(body: Json) -> Iterator[News]:
    status = body.get("status", {})
    observed = status.get("conditions", ())
    inhibited = conditions.find(observed, PolicyCondition.INHIBITED)
    if inhibited and inhibited["status"] == "True":
        words = f"it would act, but {inhibited['reason']}: {inhibited['message']}"
        yield News("Inhibited", words, f"{inhibited['lastTransitionTime']}/{inhibited['reason']}")
    available = conditions.find(observed, PolicyCondition.SIGNALS_AVAILABLE)
    blind = [each for each in status.get("signals", ()) if _blind(each)]
    if available is None or available["status"] != "False" or not blind:
        return
    since = available["lastTransitionTime"]
    yield News(Reason.BLIND, available["message"], since)
    alerting = {s["name"] for s in body["spec"]["signals"] if s.get("onNoData") == "Alert"}
    for each in blind:
        if each["name"] in alerting:
            words = f"signal {each['name']} is Unknown, {each['reason']}: {each['message']}"
            yield News("NoData", words, f"{since}/{each['name']}/{each['reason']}")


def _blind(signal: Json) -> bool:
    """Whether it was asked and did not answer. Every policy and every detector starts unread."""
    early = (Blindness.NEVER_READ, Blindness.WARMING_UP)
    return bool(signal["verdict"] == Verdict.UNKNOWN and signal.get("reason") not in early)
