"""Which backend serves. The SDK of `openai` takes a second and 50 MB to import, so only who configures it pays."""

import logging

from mintflow_realtime.ai_backends.base import Backend
from mintflow_realtime.ai_backends.echo import EchoBackend
from mintflow_realtime.ai_backends.unusable import UnusableBackend

_log = logging.getLogger("mintflow.ai")


def choose(
    name: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    default_model: str = "",
    system_prompt: str = "",
    timeout_seconds: float = 300.0,
) -> Backend | None:
    """Return the backend `name` (`openai`, `echo`), or None where nothing is configured.

    `timeout_seconds` is the longest silence of the AI service. Where the SDK can't be imported, each request is told.
    """
    if name == "echo":
        return EchoBackend()
    if name == "openai" and (api_key or base_url):
        try:
            from mintflow_realtime.ai_backends.openai_backend import OpenAIBackend
        except ImportError as error:
            reason = "AI_BACKEND=openai needs the package openai: pip install 'mintflow-realtime[ai]'"
            _log.error("%s (%s)", reason, error)
            return UnusableBackend(reason, default_model or "none")
        return OpenAIBackend(
            api_key=api_key,
            base_url=base_url,
            default_model=default_model,
            system_prompt=system_prompt,
            piece_seconds=timeout_seconds,
            total_seconds=timeout_seconds,
        )
    return None
