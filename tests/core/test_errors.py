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
