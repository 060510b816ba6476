"""A sample that concerns many policies leaves the loop its turns."""

import asyncio
from types import SimpleNamespace
from typing import Any

from killswitch.reactor.turns import Turns


def watched(uid: str) -> Any:
    """As much of a policy as is looked at."""
    return SimpleNamespace(policy=SimpleNamespace(uid=uid))


async def test_few_are_judged_at_once_and_the_rest_in_later_turns() -> None:
    """In their order, each once, with turns of others between."""
    judged: list[str] = []
    turns = Turns(lambda each: judged.append(each.policy.uid))
    for number in range(100):
        turns(watched(str(number)))
    turns(watched("99"))  # waits already
    early = len(judged)
    between = 0
    while len(judged) < 100:
        await asyncio.sleep(0)
        between += 1
    assert 1 <= early < 100
    assert judged == [str(number) for number in range(100)]
    assert between >= 10
    await asyncio.sleep(0)
    turns(watched("a"))
    assert judged[-1] == "a", "nothing waits, so nothing is put off"


def test_all_are_judged_at_once_where_nothing_else_waits() -> None:
    """A simulation or a test that runs no loop sees each decision as it is made."""
    judged: list[str] = []
    turns = Turns(lambda each: judged.append(each.policy.uid))
    for number in range(100):
        turns(watched(str(number)))
    assert len(judged) == 100
