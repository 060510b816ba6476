"""Every command that the documentation shows is one that the command line accepts."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from killswitch.cli.main import app

_ROOT = Path(__file__).parents[2]
_PAGES = sorted(
    [_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md"), *(_ROOT / "policies").glob("*.yaml")]
)
_OFFLINE = {"break-glass", "version"}
"""What connects to nothing, and so succeeds without a cluster."""


def commands() -> list[str]:
    """The lines that are a command of ours, without what prompts or explains it."""
    found = []
    for page in _PAGES:
        for line in page.read_text().splitlines():
            said = re.match(r"[\s#$]*kubectl killswitch ([a-z].*)", line)
            if said:
                text = re.sub(r"\s[#>|].*", "", said[1]).replace("--for …", "--for 5m")
                found.append(text.strip())
    return sorted(set(found))


@pytest.mark.parametrize("text", commands())
def test_it_is_accepted(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets as far as looking for a cluster: its words and options exist, and agree."""
    monkeypatch.chdir(_ROOT)  # where the files are that it names
    arguments = shlex.split(text)
    offline = arguments[0] in _OFFLINE or "-f" in arguments
    if not offline:
        arguments += ["--kubeconfig", str(tmp_path / "absent")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == (0 if offline else 1), result.output
    assert offline or "Not possible: reach a cluster" in result.output


def test_the_documentation_shows_commands() -> None:
    """The check above would pass vacuously if none were found."""
    assert len(commands()) > 20
    shown = " ".join(commands())
    assert [
        each for each in ("--image", "--everywhere", "--graceful", "isvc/") if each not in shown
    ] == []
