"""Text that somebody else has chosen, as text that no terminal obeys."""

from __future__ import annotations

__all__ = ["visible"]


def visible(text: str, keep: str = "") -> str:
    """Give the text with an escape, as in \\x1b, for whatever a terminal would obey or hide.

    `keep` are letters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in keep
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
