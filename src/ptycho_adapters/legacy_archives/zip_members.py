"""Members of a zip file, one by one, within bounds that are known before anything is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from ptycho_core.errors import ArchiveError, Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_MEMBERS = 4096
_LONGEST_NAME = 200
_MOST_BYTES = 1 << 33  # of all members together
_LARGEST_MEMBER = 1 << 31  # that is read
# Weights hardly shrink; only members below the second figure may be smaller by more than the first.
_LARGEST_RATIO, _SMALL_BYTES = 64, 1 << 24
_ENCRYPTED = 1
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# zipfile reports damage in many ways; a password as a bare RuntimeError.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class Members:
    """The members of an open zip file.

    Args:
        archive: open for reading.
        subject: what it is called in errors.

    Raises:
        ArchiveError: there are too many members, of too much content, or names that no model archive has.
    """

    def __init__(self, archive: zipfile.ZipFile, subject: str) -> None:
        self._archive = archive
        self.subject = subject
        listed = archive.infolist()
        raise_if_any(ArchiveError, subject, _problems(listed))
        self._infos = {info.filename: info for info in listed}

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the file."""
        return tuple(self._infos)

    def read(self, name: str, largest: int = _LARGEST_MEMBER) -> bytes:
        """Unpack one member.

        Args:
            name: of the member.
            largest: bytes that it may have.

        Raises:
            ArchiveError: there is no such member; it is larger, packed in another way than usual, or damaged.
        """
        info = self._infos.get(name)
        if info is None:
            problem = Problem(path=name, expected="a member of that name", found="none")
            raise ArchiveError(self.subject, [problem])
        raise_if_any(ArchiveError, self.subject, _packing_problems(info, largest))
        with self._damage_named(name):
            return self._archive.read(info)

    @contextmanager
    def _damage_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            problem = Problem(path=name, expected="a complete member", found=str(error)[:200])
            raise ArchiveError(self.subject, [problem]) from error


@contextmanager
def opened(source: Path | IO[bytes], subject: str) -> Iterator[Members]:
    """Open a zip file and look at its table of contents.

    Raises:
        ArchiveError: it is no zip file, or its table of contents is damaged or out of bounds.
    """
    try:
        archive = zipfile.ZipFile(source)
    except DAMAGE as error:
        problem = Problem(path="file", expected="a complete zip archive", found=str(error)[:200])
        raise ArchiveError(subject, [problem]) from error
    with archive:
        yield Members(archive, subject)


def _problems(listed: list[zipfile.ZipInfo]) -> Iterator[Problem]:
    if len(listed) > _MOST_MEMBERS:
        yield Problem(path="file", expected=f"at most {_MOST_MEMBERS} members", found=str(len(listed)))
        return
    total = sum(info.file_size for info in listed)
    if total > _MOST_BYTES:
        yield Problem(path="file", expected=f"at most {_MOST_BYTES} bytes in all members", found=str(total))
    for name, times in Counter(info.filename for info in listed).items():
        if times > 1:
            yield Problem(path=name[:_LONGEST_NAME], expected="one member of that name", found=str(times))
        if not _is_plain(name):
            expected = f"a relative path of at most {_LONGEST_NAME} printable characters"
            yield Problem(path=repr(name[:_LONGEST_NAME]), expected=expected, found="another name")


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return (
        0 < len(name) <= _LONGEST_NAME
        and name.isprintable()
        and not any(letter in name for letter in "\\:")
        and "" not in parts[:-1]
        and not {".", ".."} & set(parts)
    )


def _packing_problems(info: zipfile.ZipInfo, largest: int) -> Iterator[Problem]:
    if info.file_size > largest:
        yield Problem(path=info.filename, expected=f"at most {largest} bytes", found=str(info.file_size))
    if info.file_size > max(_SMALL_BYTES, _LARGEST_RATIO * info.compress_size):
        expected = f"at most {_LARGEST_RATIO} bytes out of each packed one"
        yield Problem(path=info.filename, expected=expected, found=f"{info.file_size} out of {info.compress_size}")
    if info.compress_type not in _PACKINGS:
        found = f"method {info.compress_type}"
        yield Problem(path=info.filename, expected="a stored or deflated member", found=found)
    if info.flag_bits & _ENCRYPTED:
        yield Problem(path=info.filename, expected="a member that can be read", found="an encrypted one")
