"""What went wrong at an AI service, in our words. What it wrote itself may hold keys and prompts, and stays here."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import msgspec
import openai

from mintflow_realtime.protocol.ai import AiUnavailable
from mintflow_realtime.protocol.errors import (
    InvalidPayload,
    NotFound,
    RateLimited,
    RealtimeError,
    TooLarge,
    Unavailable,
)

_log = logging.getLogger("mintflow.ai")


@contextmanager
def errors_named() -> Iterator[None]:
    """Raise what the SDK raises within as one of `mintflow_realtime.protocol.errors`, without its context."""
    try:
        yield
    except RealtimeError:
        raise
    except openai.APIStatusError as error:
        _log.warning("the AI service answered %d", error.status_code)
        raise _refusal(error) from None
    except openai.APITimeoutError:
        raise Unavailable("The AI service did not answer in time") from None
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
            _log.error("OPENAI_BASE_URL is no address of an AI service")
            raise AiUnavailable(
                "This server can't use its AI service: OPENAI_BASE_URL must begin with http://"
            ) from None
        _log.warning("the connection to the AI service failed: %s", type(error.__cause__).__name__)
        raise Unavailable("The connection to the AI service failed") from None
    except openai.APIError as error:
        _log.warning("the AI service failed while it answered: %s", error.code)
        raise Unavailable("The AI service failed while it answered") from None
    except httpx2.TimeoutException:
        raise Unavailable("The AI service did not answer in time") from None
    except httpx2.HTTPError as error:
        _log.warning("the connection to the AI service failed: %s", type(error).__name__)
        raise Unavailable("The connection to the AI service failed") from None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, msgspec.MsgspecError) as error:
        # The SDK takes JSON of any shape.
        _log.warning("the AI service sent what can't be read: %s", type(error).__name__)
        raise Unavailable("The AI service sent what can't be read") from None


def unusable(error: Exception) -> AiUnavailable:
    """Return what to tell of a client that can't be made. A proxy's address may hold a password, and stays here."""
    if isinstance(error, ImportError):
        reason = (
            "a SOCKS proxy in ALL_PROXY, HTTPS_PROXY or HTTP_PROXY needs the package socksio: "
            "pip install 'httpx2[socks]'"
        )
    else:
        reason = (
            "check the proxies in ALL_PROXY, HTTPS_PROXY, HTTP_PROXY and NO_PROXY, OPENAI_BASE_URL, and the "
            "certificates in SSL_CERT_FILE and SSL_CERT_DIR"
        )
    _log.error("the AI service can't be used: %s (%s)", reason, type(error).__name__)
    return AiUnavailable(f"This server can't use its AI service: {reason}")


def _refusal(error: openai.APIStatusError) -> RealtimeError:
    status = error.status_code
    if status in (401, 403) or error.code == "insufficient_quota":
        return AiUnavailable("The AI service does not let this server in: check OPENAI_API_KEY and its account")
    if status == 429:
        return RateLimited("The AI service is busy; try again later")
    if status == 404:
        return NotFound("The AI service does not know this model")
    if status == 413 or error.code == "context_length_exceeded":
        return TooLarge("The conversation is too long for this model")
    if status in (400, 422):
        return InvalidPayload("The AI service refuses this request, perhaps for its model or options")
    if status in (408, 409) or status >= 500:
        return Unavailable("The AI service failed; try again later")
    return AiUnavailable(f"The AI service answered with HTTP status {status}: check OPENAI_BASE_URL")
