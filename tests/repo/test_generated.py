"""Generated files are what `make gen` would write now."""

from pathlib import Path

from killswitch.api import generate

ROOT = Path(__file__).resolve().parents[2]


def test_every_generated_file_is_current() -> None:
    """CRDs, admission policies, the chart's copies and the reference match the models."""
    assert generate.outdated(ROOT) == [], "run `make gen`"


def test_every_kind_has_its_files() -> None:
    """The check above would pass vacuously if nothing were generated."""
    paths = [path for path, _ in generate.files()]
    assert Path("crds/shutdowns.yaml") in paths
    assert len(paths) > 10
