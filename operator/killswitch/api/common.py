"""What all kinds share: the strict base model, field types, conditions, object metadata."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from killswitch.core import durations
from killswitch.core.names import GROUP, VERSION

API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """Strict, immutable, camelCase on the wire: unknown fields are errors, not typos."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class Rule:
    """A CEL rule of a CRD schema: `expression` must hold, else users read `message`."""

    def __init__(self, expression: str, message: str) -> None:
        """Keep both texts."""
        self.expression = expression
        self.message = message

    def as_schema(self) -> dict[str, str]:
        """The `x-kubernetes-validations` entry."""
        return {"rule": self.expression, "message": self.message}


def rules(*entries: Rule, **more: Any) -> ConfigDict:
    """Model configuration that adds CEL rules (and other schema keywords) to the base one."""
    extra = {"x-kubernetes-validations": [entry.as_schema() for entry in entries], **more}
    return ConfigDict(json_schema_extra=extra)


def map_list(key: str) -> dict[str, Any]:
    """Schema keywords of a list that server-side apply merges by `key`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


Name = Annotated[str, Field(min_length=1, max_length=253)]
"""A Kubernetes object's name."""
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]
Reason = Annotated[str, Field(min_length=1, max_length=1024)]
"""A person's words, kept for the record."""
User = Annotated[str, Field(min_length=1, max_length=253)]
"""A username as the API server authenticates it."""
Duration = Annotated[str, Field(pattern=durations.PATTERN, max_length=16)]
"""A duration such as 500ms, 30s or 1h30m."""
Decimal = Annotated[
    str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$", max_length=32)
]
"""A number as a decimal string, since Kubernetes APIs hold no floats."""
# `format: date-time` alone lets through what Python cannot read: a small t, +99:00, the year 0.
_UTC = "^[1-9][0-9]{3}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}([.][0-9]{1,9})?Z$"
Timestamp = Annotated[
    str, Field(pattern=_UTC, json_schema_extra={"format": "date-time"}, max_length=40)
]
"""RFC 3339, UTC, as programs write it."""
_WRITTEN_TIME = Rule(
    # An impossible day is an error here, and refused by it.
    f"self.matches('{_UTC}') && timestamp(self) > timestamp('1000-01-01T00:00:00Z')",
    "write the time in UTC with capital T and Z: 2026-11-24T15:00:00Z",
)
WrittenTime = Annotated[
    str,
    Field(
        max_length=32,
        json_schema_extra={"x-kubernetes-validations": [_WRITTEN_TIME.as_schema()]},
    ),
]
"""A time that people write: the same, refused in words instead of by the pattern."""


class Condition(Model):
    """One observed fact about the object, in the form of `metav1.Condition`."""

    type: str = Field(max_length=64, description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=128, description="One CamelCase word from a closed list.")
    message: str = Field(default="", max_length=4096, description="One sentence with figures.")
    last_transition_time: Timestamp = Field(description="When status last changed.")
    observed_generation: int = Field(default=0, ge=0, description="The generation judged.")


Conditions = Annotated[
    list[Condition],
    Field(max_length=16, description="Observed facts.", json_schema_extra=map_list("type")),
]


class Meta(BaseModel):
    """The part of `metadata` that killswitch reads; everything else passes through unread."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str = Field(default="", alias="creationTimestamp")
    deletion_timestamp: str | None = Field(default=None, alias="deletionTimestamp")
    resource_version: str = Field(default="", alias="resourceVersion")


class Object(BaseModel):
    """Base of the top-level kinds: `Kind.model_validate(json)` reads one from the API."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True
    )

    metadata: Meta
