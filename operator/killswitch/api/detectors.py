"""Detectors as policies write them: one object for each kind, its parameters typed.

Defaults are those of `core.detectors` (a test compares them). They are stored with the policy, so
that a later release does not change what a stored policy does.
"""

from collections.abc import Callable
from typing import Any

from pydantic import Field
from pydantic.alias_generators import to_camel

from killswitch.api.common import Decimal, Duration, Model, Rule, rules
from killswitch.core import detectors, durations
from killswitch.core.detectors import Detector, Kind, Side
from killswitch.core.errors import InvalidPolicyError

_GAP = Field(
    default="5m",
    description="Time between two samples above which what lies between counts as not seen: the "
    "signal is Unknown (Interrupted) once. At least twice the time between two samples.",
)
_LEAST = Field(
    description="The smallest deviation worth acting on, in the unit of the series. Required: "
    "without it a flat series trips on rounding errors."
)
_LIMIT = "Deviations beyond which it trips."
_SIDE = Field(default=Side.ABOVE, description="Which way counts: Above, Below or Both.")
_WARM_UP = "Samples of a series before it is judged; until then it is Unknown and never votes."


class RateDetector(Model):
    """Tripped while the value changes faster than a limit, measured across one span."""

    limit: Decimal = Field(description="Change per second, in the unit of the series.")
    span: Duration = Field(
        default="1m", description="What it is measured across: longer is calmer and later."
    )
    side: Side = _SIDE
    counter: bool = Field(
        default=False, description="For cumulative counters: a fall is a restart from 0."
    )
    gap: Duration = _GAP


class RobustZDetector(Model):
    """Tripped while a value is far from the median of the window before it (median/MAD)."""

    least: Decimal = _LEAST
    limit: Decimal = Field(default="6", description=_LIMIT)
    window: int = Field(
        default=120,
        ge=10,
        le=1000,
        description="Samples of the window. A change that lasts half of it is the new normal.",
    )
    warm_up: int = Field(default=30, ge=5, le=1000, description=_WARM_UP)
    side: Side = _SIDE
    gap: Duration = _GAP


class EwmaDetector(Model):
    """Tripped while a value is far from its smoothed past (exponentially weighted by time)."""

    least: Decimal = _LEAST
    limit: Decimal = Field(default="6", description=_LIMIT)
    half_life: Duration = Field(
        default="30m",
        description="Age at which a sample weighs half; about as long takes a step to become normal.",
    )
    warm_up: int = Field(default=30, ge=5, le=100000, description=_WARM_UP)
    side: Side = _SIDE
    gap: Duration = _GAP


class CusumDetector(Model):
    """Tripped while small deviations to one side add up (CUSUM, Page-Hinkley)."""

    least: Decimal = _LEAST
    limit: Decimal = Field(default="8", description="Sum of deviations beyond which it trips.")
    drift: Decimal = Field(default="0.5", description="Deviation that adds nothing to the sum.")
    half_life: Duration = Field(
        default="24h", description="Age at which a sample weighs half in the baseline."
    )
    warm_up: int = Field(default=60, ge=5, le=100000, description=_WARM_UP)
    side: Side = _SIDE
    gap: Duration = _GAP


class SeasonalDetector(Model):
    """Tripped while a value is unusual for this time of the day, or of the week."""

    least: Decimal = _LEAST
    limit: Decimal = Field(default="6", description=_LIMIT)
    period: Duration = Field(default="24h", description="24h for days, 168h for weeks.")
    phases: int = Field(
        default=24, ge=2, le=1000, description="Parts of the period, each with its own baseline."
    )
    cycles: int = Field(
        default=3, ge=2, le=100, description="Periods of warm-up: until then it is Unknown."
    )
    half_life_periods: int = Field(
        default=7, ge=1, le=1000, description="Periods after which what was learned weighs half."
    )
    side: Side = _SIDE
    gap: Duration = _GAP


class AbsenceDetector(Model):
    """Tripped when no series of the signal says anything new for too long, once one has."""

    after: Duration = Field(
        description="Silence that trips it: at least three times the time between two samples."
    )
    gap: Duration = Field(
        default="10s",
        description="Time between two polls above which nobody looked, so that it does not count. "
        "At least twice the poll interval.",
    )


class DetectorSpec(Model):
    """What is unusual, instead of a threshold. It never votes while it warms up."""

    model_config = rules(
        Rule(
            "[has(self.rate), has(self.robustZ), has(self.ewma), has(self.cusum),"
            " has(self.seasonal), has(self.absence)].exists_one(given, given)",
            "give the detector exactly one of rate, robustZ, ewma, cusum, seasonal and absence",
        )
    )

    every: Duration = Field(
        default="15s",
        description="At most one sample of each series is taken in each such stretch of time. "
        "Counts of samples are meant at this pace; maxAge must be at least twice as long.",
    )
    rate: RateDetector | None = Field(default=None, description="Changes too fast.")
    robust_z: RobustZDetector | None = Field(
        default=None, description="Far from the recent median; for a steady height, rare bursts."
    )
    ewma: EwmaDetector | None = Field(default=None, description="Far from its smoothed past.")
    cusum: CusumDetector | None = Field(default=None, description="Small deviations add up.")
    seasonal: SeasonalDetector | None = Field(
        default=None, description="Unusual for this time of the day or week."
    )
    absence: AbsenceDetector | None = Field(default=None, description="Has fallen silent.")


_BUILD: dict[Kind, Callable[..., Detector]] = {
    Kind.RATE: detectors.Rate,
    Kind.ROBUST_Z: detectors.RobustZ,
    Kind.EWMA: detectors.Ewma,
    Kind.CUSUM: detectors.Cusum,
    Kind.SEASONAL: detectors.Seasonal,
    Kind.ABSENCE: detectors.Absence,
}
_DURATIONS = frozenset({"span", "half_life", "period", "after", "gap"})
_DECIMALS = frozenset({"limit", "least", "drift"})


def detector(where: str, source: DetectorSpec) -> Detector:
    """What is written at `where`, in core terms; InvalidPolicyError where it cannot work."""
    given = source.model_dump(exclude={"every"}, exclude_none=True)
    if len(given) != 1:
        problem = f"needs exactly one of {', '.join(_BUILD)}"
        raise InvalidPolicyError(where, problem, "keep the one you mean")
    [(name, written)] = given.items()
    kind = Kind(to_camel(name))
    parameters = {_PARAMETERS.get(key, key): _read(key, value) for key, value in written.items()}
    if kind is not Kind.ABSENCE and parameters["gap"] < 2 * durations.seconds(source.every):
        problem = f"{written['gap']} would part samples that come every {source.every}"
        cure = "write at least twice `every`"
        raise InvalidPolicyError(f"{where}.{kind}.gap", problem, cure)
    try:
        return _BUILD[kind](**parameters)
    except InvalidPolicyError as error:
        field = error.field.removeprefix("detector.")
        raise InvalidPolicyError(f"{where}.{kind}.{field}", error.problem, error.cure) from error


_PARAMETERS = {"half_life_periods": "half_life"}
"""Those that have another name in core."""


def _read(name: str, value: Any) -> Any:
    if name in _DURATIONS:
        return durations.seconds(value)
    return float(value) if name in _DECIMALS else value
