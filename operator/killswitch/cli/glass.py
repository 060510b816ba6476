"""`break-glass`: plain shell and YAML that stop a namespace without any process of ours.

Prints and connects to nothing, so it works on a machine without a kubeconfig and can be printed
on paper. The texts are package data; one placeholder names the namespace.
"""

import re
from enum import StrEnum
from importlib import resources

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem

_PLACE = "__NAMESPACE__"
_ASK = "${1:?name the namespace: bash %s NAMESPACE}"


class Bundle(StrEnum):
    """Which script; the value is its file."""

    INSTALLED = "installed.sh"
    INSTALLED_UNDO = "installed-undo.sh"
    BARE = "bare.sh"
    BARE_UNDO = "bare-undo.sh"


def choose(*, bare: bool, undo: bool) -> Bundle:
    """The script meant by the flags."""
    if bare:
        return Bundle.BARE_UNDO if undo else Bundle.BARE
    return Bundle.INSTALLED_UNDO if undo else Bundle.INSTALLED


def text(bundle: Bundle, namespace: str | None) -> str:
    """The script; without a namespace it takes one as its first argument."""
    if namespace is not None and not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace):
        cure = "write lower-case letters, digits and dashes"
        raise Problem(f"use namespace {namespace!r}", "it cannot exist", cure, ExitCode.USAGE)
    folder = resources.files("killswitch.cli") / "break_glass"
    return (folder / bundle.value).read_text().replace(_PLACE, namespace or _ASK % bundle.value)
