"""Errors as a tree, and which one an API server's answer is."""

import pytest

from killswitch.core import errors


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every error is drawn, and everything drawn exists."""
    classes = {each for each in vars(errors).values() if isinstance(each, type) and each.__module__}
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert drawn == {each.__name__ for each in classes}
    assert all(issubclass(each, errors.KillSwitchError) for each in classes)


def test_an_invalid_policy_names_field_problem_and_cure() -> None:
    """Both for people, as one sentence, and for conditions, in parts."""
    error = errors.InvalidPolicyError("spec.x", "is odd", "make it even")
    assert str(error) == "spec.x: is odd; make it even"
    assert (error.field, error.problem, error.cure) == ("spec.x", "is odd", "make it even")


def test_the_others_carry_what_callers_act_upon() -> None:
    """A status code, seconds to wait."""
    assert errors.RefusedError("no").code == 403
    assert errors.RefusedError("no", 422).code == 422
    assert errors.OverloadedError("slow", 1.5).retry_after == 1.5
    assert errors.UnacceptableError("bad").status == 400
    assert errors.UnacceptableError("big", 413).status == 413


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.RefusedError),
        (401, errors.RefusedError),
        (403, errors.RefusedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (410, errors.ExpiredError),
        (422, errors.RefusedError),
        (429, errors.OverloadedError),
        (500, errors.ServerError),
        (502, errors.UnavailableError),
        (503, errors.UnavailableError),
        (504, errors.UnavailableError),
        (302, errors.ServerError),
        (0, errors.ServerError),
    ],
)
def test_each_status_is_one_error(status: int, error: type[errors.KillSwitchError]) -> None:
    """With the words that were given, and a refusal's own status."""
    found = errors.of_answer(status, "so it is")
    assert (type(found), str(found)) == (error, "so it is")
    assert getattr(found, "code", status) == status


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 1.0), ("7", 7.0), ("soon", 1.0), ("²", 1.0)]
)
def test_who_is_overloaded_says_for_how_long(header: str | None, seconds: float) -> None:
    """A second where it does not, or in no number."""
    found = errors.of_answer(429, "slow down", header)
    assert isinstance(found, errors.OverloadedError)
    assert found.retry_after == seconds


def test_who_is_unavailable_and_asks_to_come_again_is_overloaded() -> None:
    """An API server that sheds load says so by 503, too."""
    assert isinstance(errors.of_answer(503, "later", "3"), errors.OverloadedError)
