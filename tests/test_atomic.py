"""Atomic files: old or new, complete, whatever happens."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ptycho_adapters.atomic import atomic_path, commit_files, write_bytes
from ptycho_adapters.partials import PARTIAL_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_REWRITE = """
import sys
from ptycho_adapters.atomic import atomic_path
k = 0
while True:
    k += 1
    with atomic_path(sys.argv[1]) as partial, partial.open("wb") as stream:
        for _ in range(64):
            stream.write(bytes([k % 256]) * 4096)
            stream.flush()
            print(end=".", flush=True)
"""


def _write_name(path: Path) -> None:
    """Write the name of the temporary file into it."""
    path.write_text(path.name)


def test_content_arrives(tmp_path: Path) -> None:
    """What the block writes is what the file holds, and nothing else is left."""
    write_bytes(tmp_path / "a", b"new")

    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failing_block_leaves_the_old_file(tmp_path: Path) -> None:
    """An exception half-way keeps the previous content and cleans up."""
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def fail() -> None:
        with atomic_path(target) as partial:
            partial.write_bytes(b"ne")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail()

    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_temporary_file_is_hidden_and_beside_the_target(tmp_path: Path) -> None:
    """It can be recognised, and renaming it never crosses a file system."""
    with atomic_path(tmp_path / "result.h5") as partial:
        partial.write_bytes(b"")

        assert partial.parent == tmp_path.resolve()
        assert partial.name.startswith(".result.h5.")
        assert partial.suffix == PARTIAL_SUFFIX


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """Writing through a link changes the file it names and keeps the link."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    write_bytes(tmp_path / "link", b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_the_longest_file_names_work(tmp_path: Path) -> None:
    """A name as long as file systems allow still has room for a temporary one."""
    target = tmp_path / ("a" * 255)

    write_bytes(target, b"new")

    assert target.read_bytes() == b"new"


def test_a_set_of_files_is_written_or_none_is(tmp_path: Path) -> None:
    """When the second writer fails, the first file is as it was too."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"old")

    def fail(path: Path) -> None:
        path.write_bytes(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        commit_files({first: _write_name, second: fail})

    assert first.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_set_of_files_arrives(tmp_path: Path) -> None:
    """All files of a set are there afterwards, and nothing else."""
    names = ("a.h5", "b.png")

    commit_files({tmp_path / name: _write_name for name in names})

    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert contents.keys() == set(names)
    assert all(content.startswith(f".{name}.") for name, content in contents.items())


def test_a_killed_process_leaves_a_whole_file(tmp_path: Path) -> None:
    """A process that rewrites a file again and again and is killed in any piece of it leaves one whole version."""
    target = tmp_path / "result"
    for pieces in (1, 40, 64, 65, 150, 203):
        with subprocess.Popen([sys.executable, "-c", _REWRITE, str(target)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read(pieces) == b"." * pieces
            process.kill()
        finished = (pieces - 1) // 64
        assert target.exists() or finished == 0
        if target.exists():
            content = target.read_bytes()
            assert len(content) == 64 * 4096
            assert len(set(content)) == 1
            assert content[0] >= finished

    leftovers = {path for path in tmp_path.iterdir() if path != target}
    assert all(path.name.startswith(".result.") and path.suffix == PARTIAL_SUFFIX for path in leftovers)


@pytest.mark.parametrize(
    "write", [lambda path: write_bytes(path, b"1"), lambda path: commit_files({path: _write_name})]
)
def test_a_folder_that_is_not_there_is_named(write: Callable[[Path], None], tmp_path: Path) -> None:
    """Not the hidden file in it that nobody asked for."""
    with pytest.raises(FileNotFoundError, match="No such folder to write to") as caught:
        write(tmp_path / "none" / "file.npz")
    assert caught.value.filename == str((tmp_path / "none").resolve())
