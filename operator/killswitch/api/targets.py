"""What a policy may stop, as it names it."""

from typing import Annotated

from pydantic import Field

from killswitch.api.common import (
    LabelKey,
    LabelValue,
    Model,
    Name,
    Rule,
    rules,
)


class LabelSelector(Model):
    """Objects that carry all of these labels. An empty selector is refused."""

    match_labels: dict[LabelKey, LabelValue] = Field(
        min_length=1, max_length=16, description="Labels that must all be present and equal."
    )


KindName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=63)]
GroupName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Image = Annotated[str, Field(pattern=r"^[A-Za-z0-9*][A-Za-z0-9*._:/@-]*$", max_length=512)]

_IMAGE_RULE = Rule("!has(self.image) || self.kind == 'Pod'", "image goes with kind: Pod")


class Target(Model):
    """Workloads that the policy may stop, by name, by labels or by image."""

    model_config = rules(
        Rule(
            "[has(self.name), has(self.selector), has(self.image)].exists_one(given, given)",
            "give a target exactly one of name, selector and image",
        ),
        _IMAGE_RULE,
        Rule(
            "self.kind != 'Namespace' && self.kind != 'Node'",
            "Namespace and Node targets belong in a ClusterKillSwitchPolicy",
        ),
    )

    kind: KindName = Field(
        description="Kind of the workload, at whatever level: what is above it is stopped as a whole."
        " Pod means whatever the pods belong to. docs/kinds.md lists the kinds."
    )
    group: GroupName | None = Field(
        default=None,
        description="API group of the kind; needed where docs/kinds.md shows it, and for other kinds.",
    )
    name: Name | None = Field(default=None, description="One workload by its name.")
    selector: LabelSelector | None = Field(
        default=None, description="Every workload with these labels, looked up when it fires."
    )
    image: Image | None = Field(
        default=None,
        description="Of Pod targets: those with a container of this image, whole or without tag and"
        " digest; `*` stands for any characters.",
    )


class ClusterTarget(Model):
    """Workloads in named governed namespaces, whole namespaces, pods anywhere, or nodes."""

    model_config = rules(
        Rule(
            "self.kind == 'Node' ? !has(self.namespaces)"
            " : (self.kind == 'Pod' && !has(self.name)) || has(self.namespaces)",
            "workload and Namespace targets name their namespaces; Node targets have none; Pod targets"
            " with a selector or an image may leave them out",
        ),
        Rule(
            "self.kind == 'Namespace' ? !has(self.name) && !has(self.selector) && !has(self.image)"
            " : [has(self.name), has(self.selector), has(self.image)].exists_one(given, given)",
            "give a target exactly one of name, selector and image; Namespace targets have none",
        ),
        _IMAGE_RULE,
    )

    kind: KindName = Field(
        description="What is stopped: workloads of any kind (Pod: whatever the pods belong to),"
        " Namespace: everything in the namespaces, or Node."
    )
    group: GroupName | None = Field(
        default=None,
        description="API group of the kind; needed where docs/kinds.md shows it, and for other kinds.",
    )
    namespaces: list[Name] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Governed namespaces, named literally since labels are others' to edit. Pod"
        " targets without it look in all of them: copies run everywhere.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    name: Name | None = Field(default=None, description="One workload or node by its name.")
    selector: LabelSelector | None = Field(
        default=None, description="Every workload or node with these labels."
    )
    image: Image | None = Field(
        default=None,
        description="Of Pod targets: those with a container of this image, whole or without tag and"
        " digest; `*` stands for any characters.",
    )
