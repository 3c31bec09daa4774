"""Reading a request's head strictly, in front of everything that acts on it.

The rules are those of RFC 9112 and 9110. Where they let a server choose, the strict way is taken: a proxy in front must
never read the same bytes otherwise. What isn't valid gets an error and the end of the connection. The time that reading
takes is linear in the bytes.
"""

import re
from functools import lru_cache
from typing import NamedTuple

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VERSION = re.compile(r"HTTP/([0-9])\.([0-9])").fullmatch
# All control characters but the tab, which may stand inside a value.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
# No blank, no control character, and no fragment, which is never sent.
_TARGET = re.compile(r"[!-\"$-~\x80-\xff]+").fullmatch
# uri-host [":" port], RFC 3986 3.2.2; empty where there is no authority.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.vV]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]{0,5})?").fullmatch
_SCHEME = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://").match

MAX_BODY_DIGITS = 18
# A thousand are read in a fraction of a millisecond; the bound of the bytes alone would let in four times as many.
MAX_FIELDS = 1000

Fields = dict[str, str]


class BadHead(ValueError):
    """A head that is answered with an error and the end of the connection; the text says what is wrong with it."""

    def __init__(self, fault: str, status: str = "400 Bad Request") -> None:
        super().__init__(fault)
        self.status = status

    @property
    def response(self) -> bytes:
        """The whole response."""
        body = f"{self}\n".encode("ascii", "replace")
        head = (
            f"HTTP/1.1 {self.status}\r\nConnection: close\r\nCache-Control: no-store\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class RequestHead(NamedTuple):
    """One valid head. `fields` are named as in a WSGI environ; `target` is in origin form, or `*`."""

    method: str
    target: str
    protocol: str
    fields: Fields

    @property
    def path(self) -> str:
        """The path as it came, still encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def has_body(self) -> bool:
        return "HTTP_TRANSFER_ENCODING" in self.fields or self.fields.get("CONTENT_LENGTH", "0").strip("0") != ""

    @property
    def asks_for_websocket(self) -> bool:
        """Tell whether the head asks for a WebSocket (RFC 6455, section 4.2.1)."""
        upgrade = self.fields.get("HTTP_UPGRADE")
        if upgrade is None or self.method != "GET" or not lists(upgrade, "websocket"):
            return False
        return lists(self.fields.get("HTTP_CONNECTION", ""), "upgrade")


def parse_head(head: bytes) -> RequestHead:
    """Return what a head says, its last empty line included. Raises BadHead."""
    text = head.decode("latin-1")
    if not text.endswith("\r\n\r\n"):
        raise BadHead("A line of the head ends without CR LF")
    if text.count("\r\n") > MAX_FIELDS + 2:
        raise BadHead(f"There are more than {MAX_FIELDS} headers", "431 Request Header Fields Too Large")
    lines = text[:-4].split("\r\n")
    if _CONTROLS("".join(lines)):
        raise BadHead("There is a control character in the head")
    method, target, protocol, authority = _request_line(lines[0])
    fields: Fields = {}
    repeated: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = _key(name) if colon else None
        if key is None:
            raise BadHead(_fault_of(line))
        if not key:
            continue
        if key not in fields:
            fields[key] = value.strip(" \t")
        elif key in _ONCE:
            raise BadHead(f"There are two headers {name[:40]}")
        else:
            repeated.setdefault(key, [fields[key]]).append(value.strip(" \t"))
    for key, values in repeated.items():
        fields[key] = ("; " if key == "HTTP_COOKIE" else ",").join(values)
    _check_framing(fields, protocol)
    _check_host(fields, protocol)
    if authority is not None:
        # RFC 9112, 3.2.2: what the target names counts, whatever Host says.
        fields["HTTP_HOST"] = authority
    return RequestHead(method, target, protocol, fields)


_ONCE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "CONTENT_TYPE"})


def _request_line(line: str) -> tuple[str, str, str, str | None]:
    words = line.split(" ")
    if len(words) != 3 or not _TOKEN(words[0]) or not _TARGET(words[1]):
        raise BadHead("The request line is not a method, a target and a version")
    method, target, protocol = words
    version = _VERSION(protocol)
    if version is None:
        raise BadHead("The request line does not end with a version of HTTP")
    if version[1] != "1":
        raise BadHead("HTTP/1.0 and HTTP/1.1 are served here", "505 HTTP Version Not Supported")
    if version[2] not in "01":
        # RFC 9110, 2.5: a later minor version is answered as the latest that is known.
        protocol = "HTTP/1.1"
    if target.startswith("/") or target == "*" and method == "OPTIONS":
        return method, target, protocol, None
    if method == "CONNECT":
        raise BadHead("This is no proxy", "501 Not Implemented")
    scheme = _SCHEME(target)
    if scheme is None:
        raise BadHead("The target is neither a path nor a URL of http")
    rest = target[scheme.end() :]
    ends = min((place for place in (rest.find("/"), rest.find("?")) if place >= 0), default=len(rest))
    authority, path = rest[:ends], rest[ends:]
    if not authority or not _HOST(authority):
        raise BadHead("The target names no valid host")
    return method, path if path.startswith("/") else "/" + path, protocol, authority


def _check_framing(fields: Fields, protocol: str) -> None:
    """Refuse every head whose body two readers could end in two places (RFC 9112, 6.1 to 6.3)."""
    length, coding = fields.get("CONTENT_LENGTH"), fields.get("HTTP_TRANSFER_ENCODING")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise BadHead("Content-Length is not a number")
    if length is not None and len(length) > MAX_BODY_DIGITS:
        raise BadHead("Content-Length is more than anybody takes", "413 Content Too Large")
    if coding is None:
        return
    if length is not None:
        raise BadHead("There are both Content-Length and Transfer-Encoding")
    if protocol == "HTTP/1.0":
        raise BadHead("HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() != "chunked":
        raise BadHead("The only Transfer-Encoding here is chunked")


def _check_host(fields: Fields, protocol: str) -> None:
    host = fields.get("HTTP_HOST")
    if host is None:
        if protocol != "HTTP/1.0":
            raise BadHead("There is no Host")
    elif not _HOST(host):
        raise BadHead("Host is not a name or an address, with or without a port")


def _fault_of(line: str) -> str:
    if line[:1] in (" ", "\t"):
        return "A header goes on in the next line"
    name, colon, _ = line.partition(":")
    if not colon:
        return "A header has no colon"
    if name != name.rstrip(" \t"):
        return "There is a blank before the colon of a header"
    return "The name of a header is no token"


@lru_cache(maxsize=512)
def _key(name: str) -> str | None:
    """Return a header's name in an environ: None for what is none, "" for one that is left out.

    With an underscore it could pass for another header, such as one that a proxy sets.
    """
    if not _TOKEN(name):
        return None
    if "_" in name:
        return ""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + key


def lists(value: str, wanted: str) -> bool:
    """Tell whether `wanted`, in lower case, is a member of a comma-separated list."""
    return value.lower() == wanted or wanted in (member.strip(" \t") for member in value.lower().split(","))
