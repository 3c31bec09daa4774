"""Which backend serves. The SDK of `openai` takes a second and 50 MB to import, so only who configures it pays."""

from ai_backends.base import Backend
from ai_backends.echo import EchoBackend


def choose(
    name: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    default_model: str = "",
    system_prompt: str = "",
) -> Backend | None:
    """Return the backend `name` (`openai`, `echo`), or None where nothing is configured."""
    if name == "echo":
        return EchoBackend()
    if name == "openai" and (api_key or base_url):
        from ai_backends.openai_backend import OpenAIBackend

        return OpenAIBackend(
            api_key=api_key, base_url=base_url, default_model=default_model, system_prompt=system_prompt
        )
    return None
