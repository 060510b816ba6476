"""Who starts workloads again by themselves, and the one field by which each is quieted."""

from dataclasses import dataclass

from killswitch.core.kinds import Setting
from killswitch.core.resources import Resource


@dataclass(frozen=True, slots=True)
class Quieted:
    """A kind of object that can be paused, and what is written there."""

    resource: Resource
    setting: Setting


_SUSPEND = Setting(("spec", "suspend"), rest=True)
_KEDA = "autoscaling.keda.sh"
QUIETED = (
    Quieted(
        Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject"),
        Setting(("metadata", "annotations", f"{_KEDA}/paused-replicas"), rest="0"),
    ),
    Quieted(
        Resource("keda.sh", "v1alpha1", "scaledjobs", "ScaledJob"),
        Setting(("metadata", "annotations", f"{_KEDA}/paused"), rest="true"),
    ),
    Quieted(
        Resource("argoproj.io", "v1alpha1", "applications", "Application"),
        Setting(("spec", "syncPolicy", "automated", "enabled"), rest=False),
    ),
    Quieted(
        Resource("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization"), _SUSPEND
    ),
    Quieted(Resource("helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease"), _SUSPEND),
)
