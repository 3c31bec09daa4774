"""URLs of Redis, which may list several hosts: some Pythons' `urlsplit` refuses an IPv6 address that isn't alone."""

import re
from typing import NamedTuple

_url = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<netloc>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
).match


class SplitUrl(NamedTuple):
    """The parts of a URL as `urllib.parse.urlsplit` names them, nothing decoded."""

    scheme: str
    netloc: str
    path: str
    query: str

    @property
    def login(self) -> tuple[str, str]:
        """User and password; "" for none."""
        user, _, password = self.netloc.rpartition("@")[0].partition(":")
        return user, password


def split_url(url: str) -> SplitUrl:
    """Return the parts of a URL, all empty where it is none. Raises ValueError for half a bracket."""
    found = _url(url.strip())
    if found is None:
        return SplitUrl("", "", "", "")
    if found["netloc"].count("[") != found["netloc"].count("]"):
        raise ValueError("Invalid IPv6 URL")
    return SplitUrl(found["scheme"].lower(), found["netloc"], found["path"], found["query"] or "")
