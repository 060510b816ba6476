"""Log lines: one JSON object each, on standard error, shaped as those of the other processes."""

import json
import logging
import sys

from killswitch.core import times

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _KNOWN},
            "level": record.levelname.lower(),
            "timestamp": times.text(record.created),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr() -> None:
    """From now on every log line of this process is JSON with time and level on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
