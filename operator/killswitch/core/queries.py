"""What one entry of a policy's `targets` means: which objects match it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from killswitch.core.locks import carries


@dataclass(frozen=True, slots=True)
class TargetQuery:
    """One entry of a policy's `targets`, in core terms. Node targets have no namespace.

    A `Pod` target is about what is above the pods, too; without a namespace it looks in every
    governed one.
    """

    kind: str
    """Name of the kind (`kinds.named`), or Pod, Namespace, Node."""
    namespace: str = ""
    name: str | None = None
    labels: Mapping[str, str] | None = None
    image: str | None = None
    """Of pods: an image whole, or without tag and digest; `*` stands for any characters."""

    def matches(self, name: str, labels: Mapping[str, str], images: Iterable[str] = ()) -> bool:
        """Whether an object of the right kind is meant. No name, labels or image means all."""
        if self.name is not None:
            return name == self.name
        if self.image is not None:
            return any(_is_image(each, self.image) for each in images)
        return self.labels is None or carries(labels, self.labels)

    def __str__(self) -> str:
        """`Deployment vllm in prod`."""
        place = f" in {self.namespace}" if self.namespace else ""
        if self.name is not None:
            return f"{self.kind} {self.name}{place}"
        if self.image is not None:
            return f"{self.kind} of image {self.image}{place}"
        labels = ",".join(f"{key}={value}" for key, value in sorted((self.labels or {}).items()))
        return f"{self.kind} with {labels}{place}"


def _is_image(image: str, wanted: str) -> bool:
    bare = image.partition("@")[0]
    repository = bare if ":" not in bare.rpartition("/")[2] else bare.rpartition(":")[0]
    return any(fnmatchcase(each, wanted) for each in (image, bare, repository))
