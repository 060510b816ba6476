"""What the house rules say about files, checked."""

import operator
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_operator_folder_is_not_a_package() -> None:
    """With an `__init__.py` it would shadow the standard library's module `operator`."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert "killswitch" not in (operator.__file__ or "")


def test_layers_hold() -> None:
    """import-linter's contracts in pyproject.toml are kept."""
    result = subprocess.run(
        [str(ROOT / ".venv/bin/lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("target", ["demo", "test", "test-all", "check", "bench", "cluster", "gen"])
def test_make_has_every_promised_command(target: str) -> None:
    """Each is a target with a help text, as `make` lists them."""
    assert re.search(rf"^{target}:.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("policies/*.md")]


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Every relative link names a file that exists."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_ci_runs_what_the_readme_promises() -> None:
    """`.ci/run` is `make test` and nothing cleverer."""
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
