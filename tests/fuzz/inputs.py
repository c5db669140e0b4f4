"""What the properties are tried on."""

from __future__ import annotations

from hypothesis import strategies as st

# Few letters, so that ends, and halves of ends, are everywhere; and messages whole.
PIECES = [b"a", b"b", b"\r", b"\n", b";", b"\0", b"\3", b"\r\n", b"aa", b"aba", b"\0\0\3"]
PIECES += [b"\r\n\n", b"\0\0\0\0", b"\0\0\0\3abc", b"\0\0\0\6", b"\0\0\0\7", b"abcdef"]
PIECES += [b"abcdefg", b"\xff\xfe"]

chunk = st.lists(st.sampled_from(PIECES), max_size=5).map(b"".join)
chunks_of_it = st.lists(chunk, max_size=6)

# Letters that mean something to somebody: a parser, a terminal, a file system, int().
LETTERS = "azAZ0123456789.:/@[]%#-_+=,'\"\\{}()$ \t\n\r\0\x07\x1b\x7f\x85\x9b\xa0é²٣İß\u2028\u202e"
LETTERS += "\u3000\ufeff\udcff\ud800\U0001f40d"


def text(max_size: int = 20) -> st.SearchStrategy[str]:
    """Any text; mostly of letters that are likely to break something."""
    # By number, since for "any letter" hypothesis makes a table of all, which takes
    # longer than the tests.
    anything = st.lists(st.integers(0, 0x10FFFF).map(chr), max_size=5).map("".join)
    return st.text(LETTERS, max_size=max_size) | anything
