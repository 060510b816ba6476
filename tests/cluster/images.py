"""Container images without a registry: one static program in one layer, as a tar to import.

Used by the real node. The program is the stand-in for a model server in `server/`.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster import binaries

_SOURCE = Path(__file__).parent / "server"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def server_program(report: binaries.Report = print) -> Path:
    """The static stand-in server; compiled once for each state of its source."""
    return static_program(_SOURCE, report)


def static_program(folder: Path, report: binaries.Report = print) -> Path:
    """The static program whose Go source is in this folder, named as it; compiled once for each state."""
    source = b"".join(file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file())
    name = folder.name
    cached = binaries.cache() / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"
    target = cached / name
    if not target.exists():
        cached.mkdir(parents=True, exist_ok=True)
        partial = cached / f"{name}.partial"
        command = [binaries.go(report), "build", "-trimpath", "-v", "-ldflags", "-s -w"]
        binaries.compile_go(name, [*command, "-o", str(partial), "."], folder, report)
        partial.rename(target)
    return target


def write_image(target: Path, reference: str, program: Path, arguments: Sequence[str]) -> None:
    """Write a tar with this reference whose entry point is the program with these arguments."""
    layer = _layer(program)
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}", *arguments]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        }
    ).encode()
    manifest = [
        {"Config": f"{_digest(config)}.json", "RepoTags": [reference], "Layers": ["layer.tar"]}
    ]
    with tarfile.open(target, "w") as archive:
        _add(archive, f"{_digest(config)}.json", config)
        _add(archive, "layer.tar", layer)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer(program: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, program.name, program.read_bytes(), mode=0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
