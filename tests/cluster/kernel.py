"""Puts CRDs and admission policies into a control plane, in the order that README and chart use."""

from pathlib import Path

from tests.cluster.control_plane import ControlPlane

CRDS = Path("crds")
ADMISSION = Path("manifests/admission.yaml")


def apply(control_plane: ControlPlane) -> None:
    """CRDs, then policies: one that comes before the kind of its parameters is blind for long.

    The API server looks for that kind again only after half a minute, and denies meanwhile.
    """
    control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    names = [f"{file.stem}.killswitch.dev" for file in CRDS.glob("*.yaml")]
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", *names)
    control_plane.kubectl("apply", "--server-side", "-f", str(ADMISSION))
