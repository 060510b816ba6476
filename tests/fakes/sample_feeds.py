"""Port `SampleFeeds` whose answers a test sets, by query and by group."""

from dataclasses import dataclass, field

from killswitch.core.reaction import Feed, Feeds, RuleGroup
from killswitch.core.readings import Blindness, NoAnswer


@dataclass
class FakeSampleFeeds:
    """Answers what it was told to; nothing exposes what it was told nothing about."""

    known: dict[str, Feeds] = field(default_factory=dict)
    alerts: dict[str, Feeds] = field(default_factory=dict)
    groups: dict[str, RuleGroup] = field(default_factory=dict)

    def set(self, query: str, *feeds: Feed) -> None:
        """Let the query be fed so."""
        self.known[query] = feeds

    def fail(self, query: str, reason: Blindness, detail: str) -> None:
        """Let nothing be known of the query."""
        self.known[query] = NoAnswer(reason, detail)

    async def feeds(self, query: str) -> Feeds:
        """What was set."""
        return self.known.get(query, NoAnswer(Blindness.ABSENT, f"no target exposes {query} yet"))

    async def alert(self, name: str) -> Feeds:
        """What was set."""
        return self.alerts.get(
            name, NoAnswer(Blindness.ABSENT, f"no rule of alert {name} is loaded")
        )

    async def rule_group(self, name: str) -> RuleGroup | None:
        """What was set."""
        return self.groups.get(name)
