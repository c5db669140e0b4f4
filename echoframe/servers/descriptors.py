"""How many connections a process can have open, where each costs a descriptor and little else."""

from __future__ import annotations

import logging

__all__ = ["room_for_connections"]

logger = logging.getLogger("echoframe.server")

# For listeners, files, and what handlers open themselves.
KEPT = 64
# Where a system has no limit, or one that is as good as none: max_connections goes no further.
MOST = 1_000_000


def room_for_connections() -> int:
    """Raise this process's limit of descriptors as far as it may; give what is left for peers.

    That is all but 64 of them, and never less than half.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # Some systems promise more than they allow.
            pass
        else:
            logger.info("The limit of open descriptors was raised from %d to %d", soft, hard)
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return MOST
    return min(max(soft - KEPT, soft // 2), MOST)
