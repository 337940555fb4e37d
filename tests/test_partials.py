"""Files that a killed process was writing: the next one removes them, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ptycho_adapters.atomic import write_bytes
from ptycho_adapters.partials import partial_path, remove_abandoned

if TYPE_CHECKING:
    from pathlib import Path

_HOLD = """
import sys
from pathlib import Path
from ptycho_adapters.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    print(partial.name, flush=True)
    sys.stdin.read()
"""


def _held(target: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a process that is writing a file; gives it and the name of its hidden file."""
    command = [sys.executable, "-c", _HOLD, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """What a run that is alive is writing stays, and its file arrives."""
    dead, left = _held(tmp_path / "dead")
    dead.kill()
    dead.communicate()
    alive, held = _held(tmp_path / "alive")  # another process into the same folder: it has removed the first one's
    names = {path.name for path in tmp_path.iterdir()}
    assert left not in names
    assert held in names

    write_bytes(tmp_path / "mine", b"whole")

    assert {path.name for path in tmp_path.iterdir()} == {"mine", held}
    alive.communicate("")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "alive"}


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path: Path) -> None:
    """Numbers of processes come again; the start of the process tells them apart."""
    own = partial_path(tmp_path / "file")
    number = f"-{os.getpid()}-"
    before, _, rest = own.name.partition(number)
    start, _, end = rest.partition(".")
    if start == "0":
        pytest.skip("this system does not tell when a process was started")
    earlier = own.with_name(f"{before}{number}{int(start) - 1}.{end}")
    for path in (own, earlier):
        path.touch()

    assert remove_abandoned(tmp_path) == (earlier,)


@pytest.mark.parametrize(("touched_s", "removed"), [(0, False), (86400, True)])
@pytest.mark.parametrize(
    "name", [".file.ffffffffffffffffff-1-1.0123abcd.partial", ".file.0123abcd.partial"], ids=["elsewhere", "unknown"]
)
def test_one_of_another_machine_has_to_be_old(tmp_path: Path, name: str, touched_s: int, removed: bool) -> None:
    """Nobody can see from here whether its process is alive."""
    path = tmp_path / name
    path.touch()
    now = path.stat().st_mtime
    os.utime(path, (now - touched_s, now - touched_s))

    assert remove_abandoned(tmp_path) == ((path,) if removed else ())
    assert path.exists() is not removed


def test_after_a_restart_of_the_machine_nobody_writes(tmp_path: Path) -> None:
    """Whatever the number of the process."""
    own = partial_path(tmp_path / "file")
    machine = own.name.removeprefix(".file.")[:6]
    before = own.with_name(own.name.replace(own.name[12:18], "ffffff", 1))
    assert before.name.startswith(f".file.{machine}ffffff")
    before.touch()

    assert remove_abandoned(tmp_path) == (before,)


@pytest.mark.parametrize("name", ["file.partial", ".file.partial", ".0123abcd.partial", ".file.0123ABCD.partial"])
def test_what_is_not_ours_stays(tmp_path: Path, name: str) -> None:
    """However old: other programs have their own partial files."""
    path = tmp_path / name
    path.touch()
    os.utime(path, (0, 0))

    assert remove_abandoned(tmp_path) == ()
    assert remove_abandoned(tmp_path / "no such folder") == ()
