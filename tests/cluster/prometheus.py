"""A real Prometheus on a loopback port, and an exporter whose values a test sets."""

import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.cluster import binaries
from tests.cluster.processes import Daemon, free_port

Labels = tuple[tuple[str, str], ...]


class Exporter:
    """Serves /metrics in the Prometheus text format; a context manager."""

    def __init__(self) -> None:
        """Listen on a free loopback port."""
        self._samples: dict[tuple[str, Labels], tuple[float, float | None]] = {}
        self._lock = threading.Lock()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                # A scrape that times out hangs up. Printing that would parse source text in this
                # thread, and CPython 3.11 fails when two threads do so (a SystemError in either).
                with contextlib.suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port` to scrape."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def set(self, name: str, value: float, at: float | None = None, **labels: str) -> None:
        """Expose a sample; `at` (seconds since the epoch) gives it its own timestamp."""
        with self._lock:
            self._samples[name, tuple(sorted(labels.items()))] = (value, at)

    def remove(self, name: str, **labels: str) -> None:
        """Expose it no more."""
        with self._lock:
            self._samples.pop((name, tuple(sorted(labels.items()))), None)

    def text(self) -> str:
        """All samples in the exposition format."""
        with self._lock:
            samples = list(self._samples.items())
        lines = []
        for (name, labels), (value, at) in samples:
            inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
            stamp = "" if at is None else f" {round(at * 1000)}"
            lines.append(f"{name}{{{inner}}} {value}{stamp}")
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def remote_write_entry(url: str, token: str) -> dict[str, Any]:
    """One shard keeps the order; the short backoff, how far it falls behind after an outage."""
    authorization = {"authorization": {"credentials": token}} if token else {}
    return {
        "url": url,
        **authorization,
        "remote_timeout": "2s",
        "metadata_config": {"send": False},
        "queue_config": {
            "batch_send_deadline": "5ms",
            "max_samples_per_send": 500,
            "capacity": 2500,
            "min_shards": 1,
            "max_shards": 1,
            "min_backoff": "10ms",
            "max_backoff": "50ms",
        },
    }


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass
class Prometheus:
    """One Prometheus that scrapes the given targets; a context manager."""

    directory: Path
    targets: dict[str, dict[str, str]]
    """Address → labels; more may be added with `add_target`."""
    scrape_interval: str = "100ms"
    rule_files: Sequence[Path] = ()
    alertmanagers: Sequence[Mapping[str, Any]] = ()
    """Entries of `alerting.alertmanagers`."""
    scrape_configs: Sequence[Mapping[str, Any]] = ()
    """Further jobs."""
    resend_delay: str = "1s"
    program: Path | None = None
    """Another Prometheus than the one of tests/cluster."""
    remote_write: str = ""
    """A URL to write all samples to, as fast as the reference says; nowhere if empty."""
    written_too: Sequence[str] = ()
    """Further URLs, with the same token."""
    remote_write_token: str = ""
    """What to prove by that it may be written."""
    _daemon: Daemon | None = None
    _port: int = field(default_factory=free_port)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop(kill=True)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it is ready; the first scrape follows some seconds later."""
        program = self.program or binaries.locate(["prometheus"])["prometheus"]
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_targets()
        config: dict[str, Any] = {
            "global": {
                "scrape_interval": self.scrape_interval,
                "scrape_timeout": self.scrape_interval,
                "evaluation_interval": self.scrape_interval,
            },
            "rule_files": [str(each) for each in self.rule_files],
            "alerting": {"alertmanagers": [dict(each) for each in self.alertmanagers]},
            "scrape_configs": [
                {
                    "job_name": "models",
                    "file_sd_configs": [
                        {"files": [str(self._target_file)], "refresh_interval": "1s"}
                    ],
                },
                *(dict(each) for each in self.scrape_configs),
            ],
        }
        if self.remote_write:
            config["remote_write"] = [
                remote_write_entry(each, self.remote_write_token)
                for each in (self.remote_write, *self.written_too)
            ]
        file = self.directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self._daemon = Daemon(
            "prometheus",
            [
                str(program),
                f"--config.file={file}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--query.timeout=10s",
                f"--rules.alert.resend-delay={self.resend_delay}",
                "--log.level=warn",
            ],
            self.directory / "prometheus.log",
        )
        self._daemon.start()
        self._daemon.wait_ready(self._ready)

    @property
    def _target_file(self) -> Path:
        return self.directory / "targets.json"

    def add_target(self, address: str, **labels: str) -> None:
        """Scrape one more; Prometheus notices within a second."""
        self.targets[address] = labels
        self._write_targets()

    def _write_targets(self) -> None:
        groups = [{"targets": [each], "labels": labels} for each, labels in self.targets.items()]
        partial = self._target_file.with_suffix(".partial")
        partial.write_text(json.dumps(groups))
        partial.rename(self._target_file)

    def stop(self, *, kill: bool = False) -> None:
        """End it."""
        if self._daemon is not None:
            self._daemon.stop(kill=kill)

    def restart(self) -> None:
        """Kill it and start it again over the same data."""
        self.stop(kill=True)
        self.start()

    def pause(self) -> None:
        """Freeze it: once this returns, connections are accepted and nothing answers."""
        if self._daemon is not None:
            self._daemon.signal(signal.SIGSTOP)
            # Its threads stop one after the other, each when its core turns to it.
            stat = Path(f"/proc/{self._daemon.pid}/task")
            while stat.exists() and not all(map(_stopped, stat.glob("*/stat"))):
                time.sleep(0.001)

    def resume(self) -> None:
        """Let it go on."""
        if self._daemon is not None:
            self._daemon.signal(signal.SIGCONT)

    def query(self, query: str, timeout: float = 5.0) -> list[dict[str, Any]]:
        """The result vector of an instant query; TimeoutError when it does not answer."""
        text = urllib.parse.urlencode({"query": query})
        where = f"{self.url}/api/v1/query?{text}"
        with urllib.request.urlopen(where, timeout=timeout) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return result

    def wait_for_sample(self, query: str, within: float = 30.0) -> list[dict[str, Any]]:
        """The result once it is not empty."""
        deadline = time.monotonic() + within
        while not (found := self.query(query)):
            if time.monotonic() > deadline:
                raise AssertionError(f"no sample of {query} within {within:g} s")
            time.sleep(0.05)
        return found

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _stopped(stat: Path) -> bool:
    """Whether this thread is stopped (proc(5): state T), or is no more."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] in {"T", "t", "X", "Z"}
    except OSError:
        return True
