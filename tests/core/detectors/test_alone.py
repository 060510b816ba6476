from pathlib import Path

import pytest

from killswitch.core.detectors import Kind, Vote, refuse_lone_detectors, safe_alone
from killswitch.core.errors import InvalidPolicyError


def refused(
    *votes: tuple[Kind, str], needed: int = 1, enforced: bool = True, allowed: bool = False
) -> bool:
    """Whether a policy with these detectors on these sources is refused."""
    named = [Vote(f"s{number}", *vote) for number, vote in enumerate(votes)]
    try:
        refuse_lone_detectors(named, needed=needed, enforced=enforced, allow_detector_alone=allowed)
    except InvalidPolicyError:
        return True
    return False


@pytest.mark.parametrize("kind", Kind)
def test_only_a_threshold_may_stop_a_model_alone(kind: Kind) -> None:
    """Every other detector says unusual, not forbidden."""
    assert (kind is Kind.THRESHOLD) == safe_alone(kind)
    assert (kind is not Kind.THRESHOLD) == refused((kind, "q"))


def test_people_may_accept_it_or_run_it_dry() -> None:
    """By name, or where nothing can be stopped."""
    assert not refused((Kind.EWMA, "q"), allowed=True)
    assert not refused((Kind.EWMA, "q"), enforced=False)


def test_a_quorum_of_one_makes_every_detector_alone() -> None:
    """A threshold beside it does not help: either may fire."""
    assert refused((Kind.THRESHOLD, "q"), (Kind.EWMA, "r"))


def test_a_quorum_needs_two_witnesses() -> None:
    """Two opinions on one series fail together."""
    assert not refused((Kind.EWMA, "q"), (Kind.CUSUM, "r"), needed=2)
    assert not refused((Kind.EWMA, "q"), (Kind.THRESHOLD, "q"), needed=2)
    assert refused((Kind.EWMA, "q"), (Kind.CUSUM, "q"), needed=2)
    assert not refused((Kind.EWMA, "q"), (Kind.CUSUM, "q"), (Kind.RATE, "r"), needed=3)


def test_the_refusal_names_the_signals_and_the_cure() -> None:
    """The author learns which signal, and the three ways out."""
    with pytest.raises(InvalidPolicyError) as error:
        refuse_lone_detectors(
            [Vote("tokens", Kind.EWMA, "q")], needed=1, enforced=True, allow_detector_alone=False
        )
    assert str(error.value) == (
        "spec.quorum: 1 of these would stop the targets on one statistical opinion: tokens (ewma);"
        " require a second signal that watches something else, write mode: DryRun,"
        " or accept false stops with allowDetectorAlone: true"
    )


def test_the_docs_name_every_detector() -> None:
    """A detector nobody advises on is one nobody should use."""
    text = (Path(__file__).resolve().parents[3] / "docs/detectors.md").read_text()
    assert not [kind for kind in Kind if f"`{kind}`" not in text]
