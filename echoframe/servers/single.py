"""single: the accept loop is also the worker.

    accept ─► converse ─► done ─► accept ─► …

At once       one conversation; the others wait in the kernel's backlog
Memory        shared: handlers see the same objects, and one at a time
A slow peer   delays everybody behind it
Stopping      the conversation gets the drain time, then its socket is shut
Replaces      nothing
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Server
from .handover import REST

__all__ = ["SingleServer"]


class SingleServer(Server):
    """Serve one connection after the other.

    once   stop after the first conversation
    """

    model = "single"
    only_while_serving = True
    once: bool = False

    def __init__(self, *arguments: Any, once: bool | None = None, **keywords: Any) -> None:
        if once is not None:
            self.once = once
        super().__init__(*arguments, **keywords)

    def _overheard(self) -> dict[int, Callable[[], object]]:
        others = super()._overheard()
        # A successor does not wait for the end of a conversation.
        if self._handover is not None:
            others[self._handover.fileno()] = self._handover.attend
        return others

    def _keep(self) -> float | None:
        pause = super()._keep()
        handover = self._handover
        if handover is None or not handover.rests:
            return pause
        handover.attend()
        return REST if pause is None else min(REST, pause)

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        finally:
            if self.once:
                self.stop()
