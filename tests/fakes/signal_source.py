"""Port `SignalSource` whose answers a test sets, by query."""

from dataclasses import dataclass, field

from killswitch.core.readings import Answer, Blindness, NoAnswer


@dataclass
class FakeSignalSource:
    """Answers what it was told to; a query it was told nothing about matches no series."""

    answers: dict[str, Answer | NoAnswer] = field(default_factory=dict)
    past: dict[str, tuple[Answer, ...] | NoAnswer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Every query in the order it was asked."""

    def set(
        self, query: str, *values: float, age: float = 0.0, warnings: tuple[str, ...] = ()
    ) -> None:
        """Let the query yield these values, of this age in seconds."""
        self.answers[query] = Answer(values, age, warnings)

    def fail(self, query: str, reason: Blindness, detail: str = "") -> None:
        """Let the query not be answered."""
        self.answers[query] = NoAnswer(reason, detail or f"set to {reason}")

    def remove(self, query: str) -> None:
        """Let the query match no series."""
        self.answers.pop(query, None)

    async def measure(self, query: str) -> Answer | NoAnswer:
        """What was set."""
        self.asked.append(query)
        return self.answers.get(query, Answer((), None, (f"no series of {query}",)))

    async def recall(self, query: str, span: float, step: float) -> tuple[Answer, ...] | NoAnswer:
        """The past that was set; nothing where none was."""
        return self.past.get(query, ())
