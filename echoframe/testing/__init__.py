"""Try handlers and servers out: talk() without sockets, running() with real ones.

For the tests of programs that use echoframe, and for echoframe's own.
"""

from __future__ import annotations

from .running import Running, running
from .talk import talk

__all__ = ["Running", "running", "talk"]
