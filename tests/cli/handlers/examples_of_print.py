"""A handler that prints, as people's do."""

from __future__ import annotations


def echo(message: bytes) -> bytes:
    try:
        print("got", message)
        print("got", message, flush=True)
    except OSError:
        # That nobody reads it is the test's doing.
        pass
    return message


echo.framing = "raw"  # type: ignore[attr-defined]  # a function's protocol
