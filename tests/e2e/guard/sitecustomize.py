"""Loaded by every Python process that the end-to-end tests start: no connection leaves the machine.

In: `NETWORK_LOG`, a file. Out: each refused address as a line of it, for a test to find.
"""

import ipaddress
import os
import socket
from typing import Any

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def _refuse(sock: socket.socket, address: Any) -> None:
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    try:
        local = ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        local = address[0] in {"localhost", ""}
    if local or sock.type & socket.SOCK_DGRAM:  # a datagram socket is only asked for its own name
        return
    with open(os.environ["NETWORK_LOG"], "a", encoding="utf-8") as log:
        log.write(f"{address[0]}:{address[1]}\n")
    raise ConnectionRefusedError(f"tests reach no other machine: {address}")


def _guarded_connect(self: socket.socket, address: Any) -> None:
    _refuse(self, address)
    return _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    _refuse(self, address)
    return _connect_ex(self, address)


if os.environ.get("NETWORK_LOG"):
    socket.socket.connect = _guarded_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[method-assign]
