"""How a conversation with a server may end otherwise than hoped."""

import socket
import ssl
from typing import Any


class ClientError(Exception):
    """The text is a sentence for a person."""


class Unreached(ClientError):
    """There is no connection; `advice` says what may help."""

    def __init__(self, sentence: str, advice: str = "") -> None:
        super().__init__(sentence)
        self.advice = advice

    @classmethod
    def of(cls, error: OSError, where: str) -> "Unreached":
        """Say what an error of a socket means."""
        if isinstance(error, ssl.SSLCertVerificationError):
            advice = "Give the proxy the whole chain (fullchain.pem) for this name; --insecure looks past it."
            return cls(f"the certificate of {where} is refused: {error.verify_message}", advice)
        if isinstance(error, ssl.SSLError):
            advice = "Is it http:// or https:// there, or another port?"
            return cls(f"{where} speaks no TLS here ({error.reason})", advice)
        if isinstance(error, socket.gaierror):
            return cls(f"the name {where} is not known", "Correct the host in the URL.")
        if isinstance(error, ConnectionRefusedError):
            return cls(f"nothing listens at {where}", "Start the server or the proxy there, or correct the URL.")
        if isinstance(error, TimeoutError):
            return cls(
                f"{where} doesn't answer in time",
                "Is it http:// or https:// there, and does a firewall let this through?",
            )
        if isinstance(error, ConnectionError):
            return cls(f"{where} closes the connection", "Look at the proxy's log.")
        return cls(f"{where} can't be reached: {error.strerror or error}", "")


class Refused(ClientError):
    """The server doesn't let this client in, for good: `code` is `data.code` of its connect_error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Closed(ClientError):
    """The connection has ended: by a close frame (`code`, 1005 for one without) or without one (1006)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the connection was closed ({code}{' ' + reason if reason else ''})")
        self.code = code


class NotUpgraded(ClientError):
    """The handshake of a WebSocket was answered otherwise than with 101."""

    def __init__(self, status: int, version: str, headers: dict[str, str], body: str) -> None:
        super().__init__(f"the handshake is answered with {status}")
        self.status, self.version, self.headers, self.body = status, version, headers, body


class CommandError(ClientError):
    """A command was answered with an error of the wire."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "")))
        self.code = str(error.get("code", ""))
        self.retryable = bool(error.get("retryable"))
