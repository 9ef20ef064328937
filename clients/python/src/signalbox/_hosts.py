"""Where something that is sent stays on this machine. Must not know what is sent."""

from __future__ import annotations

import ipaddress


def is_address(host: str) -> bool:
    """Whether a host is an IP address; one of version 6 may stand in brackets."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return bare == host or ":" in bare


def is_loopback(host: str) -> bool:
    """Whether a host can only be the machine itself."""
    bare = host.strip("[]").removesuffix(".").lower()
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return bare == "localhost" or bare.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
