"""Blocks internet sockets in this process. On PYTHONPATH it does so in every Python process the tests start.

Local sockets between processes (AF_UNIX, pairs, 127.0.0.1) stay. Attempts are refused and written down, so that a
refusal the code under test swallows still fails the run.
"""

import os
import socket
import traceback

LOG = os.environ.get("JINYI_SOCKET_LOG")
_OPEN = (getattr(socket, "AF_UNIX", None),)
_HERE = "127.0.0.1"


class SocketBlocked(OSError):
    """Nothing in jinyi may use the network."""


def _refuse(what: str) -> None:
    if LOG:
        with open(LOG, "a", encoding="utf-8") as stream:
            stream.write(f"{what}\n{''.join(traceback.format_stack(limit=12))}\n")
    raise SocketBlocked(f"{what} is blocked in tests")


def _guard(name: str) -> None:
    original = getattr(socket.socket, name)

    def guarded(self, *args, **kwargs):
        here = bool(args) and isinstance(args[0], tuple) and args[0][0] == _HERE
        if self.family not in _OPEN and not here:
            _refuse(f"socket.{name}{args!r}")
        return original(self, *args, **kwargs)

    setattr(socket.socket, name, guarded)


for _name in ("connect", "connect_ex", "sendto"):
    _guard(_name)


_LOOKUP = socket.getaddrinfo


def _no_lookup(host, *args, **kwargs):
    if host == _HERE and args:  # an address already: nobody is asked
        return _LOOKUP(host, *args, **kwargs)
    _refuse(f"name lookup {host!r}")


socket.getaddrinfo = _no_lookup
socket.gethostbyname = _no_lookup
