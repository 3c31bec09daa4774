"""One JSON object a line on standard error, for our own loggers; prompts, tokens and payloads are never logged."""

import json
import logging
from datetime import UTC, datetime

_EXTRA = ("correlation_id", "tenant", "sid", "reason")


class JsonFormatter(logging.Formatter):
    """Writes `time`, `level`, `logger`, `message`, and `trace` where there is an exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in _EXTRA if hasattr(record, name)},
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(level: str) -> None:
    """Let loggers under `mintflow` write at `level`, once however often it is called; the host app's are untouched."""
    logger = logging.getLogger("mintflow")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.propagate = False
