"""Many scans under `infer`: one after the other, in parts, and over a Dask cluster."""

from __future__ import annotations

import csv
import json
import logging
import pickle
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import dask
import pytest
from distributed import LocalCluster, get_worker
from hypothesis import given
from hypothesis import strategies as st

from cli_samples import tiny_scan, two_scans_and_none, without_work
from ptycho_adapters import generalist_for, legacy, read_scan, save_archive
from ptycho_adapters.cli import main
from ptycho_adapters.command_line import cluster as rooms
from ptycho_adapters.command_line import inference, logs
from ptycho_adapters.command_line.batch import State
from ptycho_adapters.command_line.cluster import Job, on_worker
from ptycho_adapters.command_line.parts import Part
from ptycho_adapters.commands import infer as command
from ptycho_adapters.report import results
from ptycho_core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ptycho_adapters.command_line.inference import ReadScan
    from ptycho_core.results.reconstruction import Reconstruction

FLAGS = (
    *(
        "--accelerator",
        "cpu",
        "--probe-rounds",
        "0",
        "--no-probe-autofocus",
        "--no-beam-search",
        "--background-counts",
        "0",
    ),
    *("--position-refinement", "none", "--orientation-search", "never", "--probe-search", "never"),
)


@pytest.fixture(autouse=True)
def parameters() -> Iterator[None]:
    with legacy.legacy_scope():
        yield


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def result(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    """What a reconstruction gives, once."""
    seen: list[Reconstruction] = []

    def watched(ready: ReadScan) -> Reconstruction:
        seen.append(inference.reconstruct_read(ready))
        return seen[0]

    with pytest.MonkeyPatch.context() as patch, legacy.legacy_scope():
        patch.setattr(command, "reconstruct_read", watched)
        out = str(tmp_path_factory.mktemp("one"))
        assert main(["infer", "--test-data", str(scan), "--output-dir", out, "--quiet", *FLAGS]) == 0
    return seen[0]


@pytest.fixture
def quick(result: Reconstruction, monkeypatch: pytest.MonkeyPatch) -> list[ReadScan]:
    """The scans that were reconstructed, without work: each gets the result that is known, and no pictures."""
    done: list[ReadScan] = []
    without_work(monkeypatch, command, result, done.append)
    return done


@pytest.fixture
def scans(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two scans and a file that is none, which comes between them; it stands beside the output."""
    monkeypatch.chdir(tmp_path)
    return two_scans_and_none(tmp_path / "scans", scan)


def _infer(*arguments: str | Path) -> int:
    return main(["infer", *map(str, arguments), "--output-dir", "out", *FLAGS])


def _states(name: str = "summary.csv") -> list[tuple[str, str]]:
    with Path("out", name).open(newline="") as file:
        return [(row["file"].rpartition("/")[2], row["state"]) for row in csv.DictReader(file)]


def _names(quick: list[ReadScan]) -> list[str]:
    found = sorted(ready.source.name for ready in quick)
    quick.clear()
    return found


@pytest.mark.parametrize(
    "named",
    [
        ("--test-data", "scans"),
        ("--test-data", "scans/*.npz"),
        ("--test-data", "scans/a.npz", "--test-data=scans/b.npz", "--test-data-file", "scans/c.npz"),
    ],
)
def test_many_scans_have_a_folder_each_and_a_failure_stops_none(
    named: tuple[str, ...], scans: Path, quick: list[ReadScan], capsys: pytest.CaptureFixture[str]
) -> None:
    """However they are named; the table says what became of each, and the code that one failed."""
    assert _infer(*named) == 1

    assert _names(quick) == ["a.npz", "c.npz"]
    assert _states() == [("a.npz", "done"), ("b.npz", "failed"), ("c.npz", "done")]
    assert "failed: 1 of 3 scans: scans/b.npz" in capsys.readouterr().err
    assert {path.name for path in Path("out/c").iterdir()} == {*results.RESULT_NAMES}


def test_a_single_scan_has_the_output_folder_itself(scans: Path, quick: list[ReadScan]) -> None:
    """Without a table and without a record of what it was made from, as ever; it is done each time."""
    for _ in range(2):
        assert _infer("--test-data", "scans/a.npz") == 0

    assert _names(quick) == ["a.npz", "a.npz"]
    assert not Path("out/summary.csv").exists()
    assert "made_from" not in json.loads(Path("out/summary.json").read_text())


def test_a_model_is_loaded_once_for_all(scans: Path, quick: list[ReadScan]) -> None:
    """Every scan is reconstructed with the very same object."""
    save_archive(generalist_for(read_scan(scans / "a.npz")), "model")

    assert _infer("--test-data", "scans/[ac].npz", "--model-path", "model", "--quiet") == 0

    assert len({id(ready.model) for ready in quick}) == 1
    assert _names(quick) == ["a.npz", "c.npz"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--test-data", "scans/a.npz", "--part", "1/2"), "--part: expected several scans"),
        (("--test-data", "scans/a.npz", "--scheduler", "tcp://x:1"), "--scheduler: expected several scans"),
        (("--test-data", "scans", "--print-config"), "--print-config: expected one scan"),
        (("--test-data", "scans/*.cxi"), "--test-data: expected files that fit"),
        (("--test-data", "scans", "--part", "0/2"), "--part: expected K/OF"),
        (("--test-data", "scans", "--part", "slurm"), "SLURM_ARRAY_TASK_ID=''"),
        (("--test-data", "scans", "--scheduler", "Exponential"), "scheduler belongs to a training"),
        (("--test-data", "scans", "--scheduler", "nowhere"), "expected the address of a Dask scheduler"),
        (("--test-data", "scans", "--scheduler", "x", "--profile"), "--profile: expected no --scheduler"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(
    more: tuple[str, ...], words: str, scans: Path, quick: list[ReadScan], capsys: pytest.CaptureFixture[str]
) -> None:
    """Code 2, a message, nothing read and no result."""
    assert _infer(*more) == 2

    assert words in capsys.readouterr().err
    assert quick == []


@given(st.lists(st.integers(), max_size=30), st.integers(1, 12))
def test_parts_are_the_whole(items: list[int], of: int) -> None:
    """Every item is in one part, and no part has more than one item more than another."""
    parts = [Part.read(f"{number}/{of}", {}).taken(items) for number in range(1, of + 1)]

    assert sorted(item for part in parts for item in part) == sorted(items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(0, 50), st.integers(1, 7), st.integers(1, 12))
def test_the_tasks_of_an_array_are_its_parts(first: int, step: int, count: int) -> None:
    """Wherever it begins and whatever its step: `--array=first-last:step`."""
    said = {name: str(value) for name, value in (("COUNT", count), ("MIN", first), ("STEP", step))}
    tasks = [said | {"ID": str(first + number * step)} for number in range(count)]
    parts = [Part.read("slurm", {f"SLURM_ARRAY_TASK_{name}": value for name, value in task.items()}) for task in tasks]

    assert parts == [Part(number=number, of=count) for number in range(1, count + 1)]


def test_an_array_with_gaps_is_refused() -> None:
    """Its tasks cannot tell which part is theirs."""
    said = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"}

    with pytest.raises(ValueError, match="an array without gaps"):
        Part.read("slurm", said)


def test_parts_have_tables_of_their_own_and_the_whole_joins_them(scans: Path, quick: list[ReadScan]) -> None:
    """A part beyond the scans has nothing to do; the same line without a part does nothing twice."""
    for number, code in (("1", 0), ("2", 1), ("3", 0), ("4", 0)):
        assert _infer("--test-data", "scans", "--part", f"{number}/4", "--quiet") == code

    assert _states("summary-part-1-of-4.csv") == [("a.npz", "done")]
    assert _states("summary-part-4-of-4.csv") == []
    assert _names(quick) == ["a.npz", "c.npz"]
    assert _infer("--test-data", "scans", "--quiet") == 1
    assert _states() == [("a.npz", "skipped"), ("b.npz", "failed"), ("c.npz", "skipped")]
    assert quick == []


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Two workers in this process; one that is lost while it has a task takes the task along at once."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as found,
    ):
        yield found
    with rooms._ONE_AT_A_TIME:  # what a lost worker was busy with has come to its end
        pass


def test_a_cluster_gives_what_this_process_gives(
    scans: Path, quick: list[ReadScan], cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same files, the same table, and the same words from the workers as from here."""
    assert _infer("--test-data", "scans", "--scheduler", cluster.scheduler_address) == 1
    over = capsys.readouterr()
    names = {path.relative_to("out") for path in Path("out").rglob("*")}
    assert _names(quick) == ["a.npz", "c.npz"]
    assert _states() == [("a.npz", "done"), ("b.npz", "failed"), ("c.npz", "done")]

    assert _infer("--test-data", "scans", "--again") == 1

    here = capsys.readouterr()
    assert {path.relative_to("out") for path in Path("out").rglob("*")} == names
    assert [line.split()[:3] for line in over.out.splitlines()] == [line.split()[:3] for line in here.out.splitlines()]
    assert "dashboard: " in over.err
    assert "workers: 2" in over.err
    assert {line for line in here.err.splitlines() if line.startswith("warning: ")} <= {*over.err.splitlines()}
    assert _infer("--test-data", "scans", "--scheduler", cluster.scheduler_address) == 1
    assert _states() == [("a.npz", "skipped"), ("b.npz", "failed"), ("c.npz", "skipped")]


def _losing(times: int, work: Callable[[ReadScan], Reconstruction]) -> Callable[[ReadScan], Reconstruction]:
    """Work whose first calls cost the worker that makes them."""
    lost: list[str] = []

    def losing(ready: ReadScan) -> Reconstruction:
        worker = get_worker()
        if len(lost) < times and worker.address not in lost:
            lost.append(worker.address)
            worker.loop.add_callback(worker.close, executor_wait=False, nanny=False)
            while worker.status.name != "closed":
                time.sleep(0.01)
        return work(ready)

    return losing


@pytest.mark.parametrize(("times", "state"), [(1, "done"), (2, "failed")])
def test_the_scan_of_a_lost_worker_is_done_by_another_or_named(
    times: int,
    state: str,
    scans: Path,
    quick: list[ReadScan],
    cluster: LocalCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As often as Dask is told to try; what is said is which worker had it last."""
    monkeypatch.setattr(command, "reconstruct_read", _losing(times, vars(command)["reconstruct_read"]))

    code = _infer("--test-data", "scans/a*", "--scheduler", cluster.scheduler_address, "--quiet")

    assert (code, _states()) == (int(state == "failed"), [("a.npz", state)])
    if state == "failed":
        assert "2 workers were lost" in json.loads(Path("out/summary.json").read_text())["scans"][0]["error"]


def _job(scans: Path) -> Job:
    typed = {"setting accelerator": "cpu", "setting output_dir": "out", "domain": "counts"}
    return Job(
        verb=command._VERB,
        typed=typed,
        source=Path("scans/a.npz"),
        folder=Path("out/a"),
        here=scans.parent,
        run="1",
        version=VERSION,
        level=logging.INFO,
    )


def test_a_scan_travels_and_its_words_come_back(
    scans: Path, quick: list[ReadScan], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in another folder finds the files, and what it logs is logged where the command was typed."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    came = pickle.loads(pickle.dumps(on_worker(pickle.loads(pickle.dumps(_job(scans))))))

    assert (came.row.state, came.row.error) == (State.DONE, "")
    assert (scans.parent / "out" / "a" / "object.h5").is_file()
    log = scans.parent / "log.jsonl"
    with logs.logs_of("infer", {"log_file": str(log)}, []):
        logs.replay(came.logged)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"reading", "scan", "files"} <= {line.get("stage") for line in lines}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda job: attrs.evolve(job, version="0.0.1"), "install the same"),
        (lambda job: attrs.evolve(job, here=Path("/nowhere")), "has to see the files under the same paths"),
        (lambda job: attrs.evolve(job, source=Path("scans/z.npz")), "has to see the files under the same paths"),
        (lambda job: attrs.evolve(job, source=Path("scans/b.npz")), "b.npz"),
    ],
)
def test_what_a_worker_cannot_do_is_a_failed_row(
    change: Callable[[Job], Job], words: str, scans: Path, quick: list[ReadScan]
) -> None:
    """Another version, another disk, a file that is no scan."""
    came = on_worker(change(_job(scans)))

    assert came.row.state is State.FAILED
    assert words in came.row.error
    assert [level for _, level in came.said] == [logging.INFO]


def test_without_dask_the_extra_is_named(
    scans: Path, quick: list[ReadScan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)

    assert _infer("--test-data", "scans", "--scheduler", "tcp://127.0.0.1:8786") == 2

    assert "pip install 'ptycho-core[dask]'" in capsys.readouterr().err
    assert quick == []


def test_a_scheduler_that_does_not_answer_is_named(
    scans: Path, quick: list[ReadScan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its address."""
    monkeypatch.setattr(rooms, "_CONNECT_S", 0.1)

    assert _infer("--test-data", "scans", "--scheduler", "tcp://127.0.0.1:9") == 2

    assert "found tcp://127.0.0.1:9" in capsys.readouterr().err
