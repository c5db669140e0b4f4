"""What somebody wants of an adopted program, and how it travels: in one variable.

Inherited by whatever the program starts. Loaded by itself, so nothing of ours is
imported here.
"""

from __future__ import annotations

import os

# typing's own costs more than all of this file.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["VARIABLE", "Wish"]

VARIABLE = "ECHOFRAME_ADOPT"


class Wish:
    """What was asked for, and the process for which.

    model           the model's name; "" is that each keeps its own kind
    force           also where memory means something else then
    plain           servers without a mix-in as well
    resolve_names   look up the name of the address, as HTTPServer does when it binds
    loudness        -1 is quiet, 0 as always, 1 all there is
    settings        by name
    """

    def __init__(
        self,
        model: str = "",
        force: bool = False,
        plain: bool = False,
        resolve_names: bool = False,
        loudness: int = 0,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.force = force
        self.plain = plain
        self.resolve_names = resolve_names
        self.loudness = loudness
        self.settings = settings or {}

    def to_text(self) -> str:
        """For the variable of a command that this process is going to be."""
        import json

        return f"{os.getpid()} {json.dumps(vars(self))}"

    @classmethod
    def from_text(cls, text: str) -> Wish:
        import json

        return cls(**json.loads(text.partition(" ")[2]))
