"""Where a server listens: HOST, or all addresses of both families. Standard library only."""

import socket

ALL_IPV4 = "0.0.0.0"
ALL = "::"


def any_host() -> str:
    """Return the host that means all addresses: of both families, or of IPv4 where there is no other."""
    return ALL_IPV4 if _v6_only() is None else ALL


def bind_addresses(host: str, port: int) -> list[str]:
    """Return gunicorn's `bind` for HOST and PORT; "" is all addresses of both families."""
    if host:
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    found = {None: [ALL_IPV4], False: [f"[{ALL}]"], True: [ALL_IPV4, f"[{ALL}]"]}[_v6_only()]
    # A free port would be another one for each.
    return [f"{one}:{port}" for one in (found if port else found[:1])]


def _v6_only() -> bool | None:
    """Tell whether a socket of IPv6 leaves IPv4 to another, which is the kernel's to say (net.ipv6.bindv6only)."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tried:
            tried.bind((ALL, 0))
            return bool(tried.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    except OSError:
        return None
