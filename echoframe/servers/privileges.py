"""Another user for a server that root has started: looked up, assumed, and never undone.

Root binds, reads keys and sets up; before anybody is accepted the process is another
user's, and so is every worker and child that it starts from then on.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..errors import ListenError, SettingError

__all__ = ["Identity", "explained", "find_group", "find_user", "identity"]

logger = logging.getLogger("echoframe.server")


class _ThisProcess:
    # The user that it became, if it did.
    became = ""


class Identity(NamedTuple):
    """A user, as the kernel knows them."""

    name: str
    uid: int
    gid: int
    # All of them; those of whoever started the server are not among them.
    groups: tuple[int, ...]

    def assume(self) -> None:
        """Become this user, for good. Only before there are threads, workers and children.

        Errors: ListenError when that cannot be.
        """
        self.check()
        # prefork wants it only later, when it may be where nobody but root can read.
        import json  # noqa: F401

        try:
            os.setgroups(self.groups)
            # As root's, each of them sets all three: real, effective and saved.
            os.setgid(self.gid)
            os.setuid(self.uid)
        except OSError as error:
            raise self._cannot(error) from None
        if self.uid and _can_go_back():
            raise ListenError(f"cannot become user {self.name} for good on this system")
        _ThisProcess.became = self.name
        logger.info("Serving as user %s (uid %d, gid %d)", self.name, self.uid, self.gid)
        for path in (os.__file__, __file__):
            if not os.access(path, os.R_OK):
                logger.warning(
                    "user %s cannot read %s: what Python has to load from there while it serves "
                    "is missing then",
                    self.name,
                    os.path.dirname(path),
                )

    @contextmanager
    def for_now(self) -> Iterator[None]:
        """Be this user to the kernel, to ask what they may do; root again at the end.

        Only before there are threads. Errors: ListenError when that cannot be.
        """
        self.check()
        groups, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
        try:
            try:
                os.setgroups(self.groups)
                os.setegid(self.gid)
                os.seteuid(self.uid)
            except OSError as error:
                raise self._cannot(error) from None
            yield
        finally:
            os.seteuid(uid)
            os.setegid(gid)
            os.setgroups(groups)

    def _cannot(self, error: OSError) -> ListenError:
        return ListenError(f"cannot become user {self.name}: {error.strerror}", error.errno)

    def check(self) -> None:
        """Errors: ListenError when this process cannot become anybody else."""
        if os.geteuid() != 0:
            raise ListenError(
                f"cannot become user {self.name}: only root can become somebody else; start it "
                "as root, or leave the user and the group out"
            )


def identity(user: str, group: str | None = None) -> Identity:
    """Look up a user, and the group if it is not the user's own: names or numbers.

    Errors: SettingError for those that this machine does not know.
    """
    entry = find_user(user)
    if entry is not None:
        gid = entry.pw_gid if group is None else find_group(group)
        groups = tuple(os.getgrouplist(entry.pw_name, gid))
        return Identity(entry.pw_name, entry.pw_uid, gid, groups)
    if group is None:
        raise SettingError(
            f"user {user} has no name on this machine, and so no group; name the group too"
        )
    gid = find_group(group)
    return Identity(user, int(user), gid, (gid,))


def find_user(user: str) -> pwd.struct_passwd | None:
    """What this machine knows of a user; None for a number that is nobody's yet.

    Errors: SettingError for a name that it does not know.
    """
    number = _number(user)
    try:
        return pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
    except (KeyError, ValueError):
        if number is None:
            raise SettingError(f"user takes a name or a number, and nobody is {user!r}") from None
        return None


def find_group(group: str) -> int:
    """The number of a group. Errors: SettingError for a name that this machine does not know."""
    number = _number(group)
    if number is not None:
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise SettingError(f"group takes a name or a number, and none is {group!r}") from None


def explained(error: Exception) -> str:
    """An error's sentence and, where that is the reason, that this process was root once."""
    became = _ThisProcess.became
    if became and isinstance(error.__context__, PermissionError):
        return f"{error} (for {became}, the user that this server became; root could read it)"
    return str(error)


def _number(text: str) -> int | None:
    # The highest means "leave it as it is" to the kernel.
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1:
        return int(text)
    return None


def _can_go_back() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True
