"""Conditions: the one rule for how they change, and the closed lists of types and reasons."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class PolicyCondition(StrEnum):
    """Conditions of a policy."""

    READY = "Ready"  # the policy can work as written
    ARMED = "Armed"  # Ready, Enforce, and the lock has been proven lately
    SIGNALS_AVAILABLE = "SignalsAvailable"  # every signal answers
    DEMANDED = "Demanded"  # quorum met now, or that of the freezing rung
    INHIBITED = "Inhibited"  # demanded, but an interlock says no
    FIRED = "Fired"  # a Shutdown of this policy is engaged
    FREEZABLE = "Freezable"  # node guards can freeze its targets for as long as it asks
    TIMELY = "Timely"  # its worst-case reaction is within reactWithin


class ShutdownCondition(StrEnum):
    """Conditions of a Shutdown."""

    LOCKED = "Locked"  # a dry-run restart was denied
    STOPPED = "Stopped"  # the stop sequence found no pod left
    VERIFIED = "Verified"  # an independent look found no pod left
    RELEASED = "Released"  # enough people approved
    RESTORED = "Restored"  # what was there runs again


class FreezeCondition(StrEnum):
    """Conditions of a Freeze."""

    FROZEN = "Frozen"  # node guards report every pod that it covers as frozen
    ENDED = "Ended"  # it holds nothing any more


class Reason(StrEnum):
    """Why a condition is as it is."""

    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    PROTECTED = "ProtectedNamespace"
    UNGOVERNED = "Ungoverned"
    DATA_LOSS = "WouldDeleteVolumes"
    LOSS = "LossNotAccepted"
    KIND_UNSEEN = "KindUnseen"
    LOCK_PROVEN = "LockProven"
    LOCK_NOT_PROVEN = "LockNotProven"
    NOT_READY = "NotReady"
    REACTOR_SILENT = "ReactorSilent"
    DRY_RUN = "DryRun"
    DISABLED = "Disabled"
    ALL_ANSWER = "AllSignalsAnswer"
    BLIND = "SignalsUnknown"
    QUORUM = "QuorumMet"
    NO_QUORUM = "QuorumNotMet"
    HOLD_DOWN = "HoldDownRunning"
    FREEZE_QUORUM = "FreezeQuorumMet"
    ENGAGED = "ShutdownEngaged"
    FREEZE_IN_FORCE = "FreezeInForce"
    IDLE = "NoShutdown"
    NOT_INHIBITED = "NothingInhibits"
    REFUSED = "EngagementRefused"
    NO_PODS = "NoPodsLeft"
    PODS_NOT_KNOWN = "PodsNotKnown"
    STOPPING = "Stopping"
    DEADLINE = "DeadlineExceeded"
    CAME_BACK = "CameBack"
    APPROVED = "Approved"
    AWAITING_APPROVALS = "AwaitingApprovals"
    NOT_REQUESTED = "NotRequested"
    CANARY = "CanaryStage"
    SOAKING = "Soaking"
    DEMANDING = "StillDemanded"
    FULL = "FullStage"
    WRITE_REFUSED = "WriteRefused"
    DRIFT = "Drift"
    HELD_ELSEWHERE = "HeldByAnotherShutdown"
    SUPERSEDED = "Superseded"
    NOTHING_RECORDED = "NothingRecorded"
    COMPLETE = "Complete"
    DENIED = "Denied"
    IN_TIME = "InTime"
    REACTION_UNKNOWN = "ReactionUnknown"
    EXPORTER_SLOW = "ExporterTooSlow"
    SCRAPE_SLOW = "ScrapeTooSlow"
    EVALUATION_SLOW = "EvaluationTooSlow"
    ALL_FROZEN = "AllFrozen"
    FREEZING = "Freezing"
    UNGUARDED = "Unguarded"
    THAWED = "Thawed"
    EXPIRED = "Expired"
    STOPPED = "ShutdownMade"
    OVERDUE = "ShutdownOverdue"
    NO_TARGET = "NoTarget"
    GUARDED = "Guarded"
    LIVENESS_BUDGET = "LivenessBudget"
    BEYOND_LIMITS = "BeyondLimits"
    FREEZE_UNKNOWN = "NotKnown"
    POLL_SLOW = "PollTooSlow"
    PATH_SLOW = "PathTooSlow"
    DETECTOR_SLOW = "DetectorTooSlow"
    HOLD_DOWN_LONG = "HoldDownTooLong"
    MAX_AGE_SHORT = "MaxAgeTooShort"


def make(
    type_: str, status: bool | None, reason: str, message: str, *, generation: int, now: str
) -> Json:
    """A condition in wire form; None is Unknown."""
    return {
        "type": str(type_),
        "status": {True: "True", False: "False", None: "Unknown"}[status],
        "reason": str(reason),
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": now,
    }


def merge(before: Iterable[Mapping[str, Any]], now: Json) -> Json:
    """The new condition, its transition time kept where the status did not change."""
    for each in before:
        if each["type"] == now["type"] and each["status"] == now["status"]:
            return {**now, "lastTransitionTime": each["lastTransitionTime"]}
    return now


def find(conditions: Iterable[Mapping[str, Any]], type_: str) -> Mapping[str, Any] | None:
    """The condition of this type, or None: nobody has looked yet."""
    return next((each for each in conditions if each["type"] == type_), None)


def holds(conditions: Iterable[Mapping[str, Any]], type_: str) -> bool:
    """Whether the condition is there and True."""
    found = find(conditions, type_)
    return found is not None and found["status"] == "True"
