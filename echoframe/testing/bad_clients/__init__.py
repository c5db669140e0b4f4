"""The zoo: bad clients to let loose on a server of one's own, ours or not.

Each animal does one bad thing; a healthy client asks meanwhile and afterwards, and must be
served. What comes of it is a Visit for each animal.

    from echoframe.testing import bad_clients

    for visit in bad_clients.release("tcp://127.0.0.1:7007"):
        assert visit.ok, visit

    python -m echoframe.testing.bad_clients 127.0.0.1:7007

leash.py     what animals may use, and how far they may go
healthy.py   the client that must be served
animal.py    what an animal is; streams.py, handshakes.py and datagrams.py have them
visits.py    who goes when, and what comes of it
"""

from __future__ import annotations

from .animal import Animal, animal
from .healthy import Healthy
from .leash import Fault, Leash, Peer
from .visits import ZOO, Visit, release, visits

__all__ = [
    # letting them loose
    "release",
    "visits",
    "Visit",
    "Healthy",
    # who there is
    "ZOO",
    "Animal",
    # an animal of one's own
    "animal",
    "Leash",
    "Peer",
    "Fault",
]
