"""Payloads of older formats: what they cannot have stands for what was done then; all else is as strict as ever."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest

from ptycho_core.config.older_payloads import _fields, brought_up, newest
from ptycho_core.config.payload import ScanFacts, TrainingPayload, resolve_training
from ptycho_core.config.payload_json import FORMAT_VERSION, _Stored, payload_from_json, payload_to_json, read_payload
from ptycho_core.errors import ConfigError

AS_THEN = {
    "beam_search": False,
    "blur_search": "never",
    "checkpoint_every_s": None,
    "error_bars": False,
    "error_bars_check": False,
    "finish": "none",
    "flux_search": "never",
    "orientation_search": "never",
    "position_refinement": "none",
    "probe_modes": None,
    "probe_search": "never",
}
"""Settings of later formats that format 1 did not have, with what a run did without them."""
LATER = (
    ("pt_inference", "error_bars_check"),
    ("provenance", "error_bars_check"),
    ("pt_training", "flux_search"),
    ("pt_inference", "flux_search"),
    ("provenance", "flux_search"),
    ("pt_training", "blur_search"),
    ("pt_inference", "blur_search"),
    ("provenance", "blur_search"),
)
"""Settings of formats after 2, with the records that hold them."""
SHARED = ("background_counts", "probe_autofocus")
"""Settings that format 1 had for trainings alone."""


@pytest.fixture(scope="module")
def payload() -> TrainingPayload:
    settings = {"n_groups": 64, "background_counts": 1.5, "probe_autofocus": False}
    return resolve_training(ScanFacts(path=Path("scan.npz"), N=128), settings, output_dir=Path("out"))


def in_format_1(payload: TrainingPayload) -> dict[str, Any]:
    """The payload as format 1 had it."""
    data: dict[str, Any] = json.loads(payload_to_json(payload)) | {"format_version": 1}
    for key in AS_THEN:
        del data["provenance"][key]
        for record in ("pt_training", "pt_inference", "execution"):
            data[record].pop(key, None)
    for key in SHARED:
        del data["pt_inference"][key]
    return data


def test_an_older_payload_is_taken_as_it_was_then(payload: TrainingPayload) -> None:
    """What it lacks has the declared value, in every record and with nobody as its source; all else is its own."""
    read = read_payload(json.dumps(in_format_1(payload)))

    assert (read.format_version, dict(read.added)) == (1, AS_THEN)
    before, now = (json.loads(payload_to_json(each)) for each in (payload, read.payload))
    for record in ("pt_training", "pt_inference", "execution"):
        assert now[record] == before[record] | {key: AS_THEN[key] for key in AS_THEN if key in before[record]}
    assert read.payload.pt_inference_config.background_counts == 1.5
    assert not read.payload.pt_inference_config.probe_autofocus
    assert all(read.payload.provenance[key].default for key in AS_THEN)
    assert now["overrides_applied"] == before["overrides_applied"]


def test_the_present_format_has_nothing_added(payload: TrainingPayload) -> None:
    """It is read as it was written."""
    data = json.loads(payload_to_json(payload))

    assert data["format_version"] == FORMAT_VERSION
    read = read_payload(json.dumps(data))
    assert (read.payload, read.format_version, dict(read.added)) == (payload, FORMAT_VERSION, {})


@pytest.mark.parametrize("number", [1, 2])
def test_format_2_is_known_under_the_number_of_format_1_too(payload: TrainingPayload, number: int) -> None:
    """It was written so once; what came after it is added."""
    data = json.loads(payload_to_json(payload)) | {"format_version": number}
    for record, key in LATER:
        del data[record][key]

    read = read_payload(json.dumps(data))

    added = {"error_bars_check": False, "blur_search": "never", "flux_search": "never"}
    assert (read.format_version, dict(read.added)) == (2, added)
    as_then = attrs.evolve(
        payload,
        pt_training_config=attrs.evolve(payload.pt_training_config, blur_search="never", flux_search="never"),
        pt_inference_config=attrs.evolve(payload.pt_inference_config, blur_search="never", flux_search="never"),
    )
    assert read.payload == as_then


@pytest.mark.parametrize(
    ("record", "key", "words"),
    [
        ("pt_model", "offset", "pt_model.offset: expected a value, found nothing"),
        ("pt_training", "background_counts", "pt_training.background_counts: expected a value, found nothing"),
        ("provenance", "N", "provenance.N: expected a value, found nothing"),
    ],
)
def test_what_an_older_format_had_is_not_made_up(payload: TrainingPayload, record: str, key: str, words: str) -> None:
    """Its lack is named with its path."""
    data = in_format_1(payload)
    del data[record][key]

    with pytest.raises(ConfigError) as error:
        payload_from_json(json.dumps(data))

    assert words in [str(problem) for problem in error.value.problems]


def test_half_a_format_is_none(payload: TrainingPayload) -> None:
    """One setting of format 2 makes all of its others missing; an unknown one is refused in any format."""
    data = in_format_1(payload)
    data["pt_training"]["beam_search"] = True
    data["pt_data"]["spare"] = 1

    with pytest.raises(ConfigError) as error:
        payload_from_json(json.dumps(data))

    found = {problem.path: problem.found for problem in error.value.problems}
    assert found["pt_data.spare"] == "an unknown one"
    assert found["pt_inference.beam_search"] == found["provenance.finish"] == "nothing"


def test_what_a_format_did_not_have_is_refused_in_it(payload: TrainingPayload) -> None:
    """A setting of a later format is named with its path; nothing else is wrong then."""
    data = json.loads(payload_to_json(payload)) | {"format_version": 2}

    with pytest.raises(ConfigError) as error:
        payload_from_json(json.dumps(data))

    assert error.value.subject == "training payload"
    assert {str(problem) for problem in error.value.problems} == {
        f"{record}.{key}: expected no such field in format 2, found one"
        for record, key in LATER
        if record != "provenance"
    }


def test_a_payload_says_its_format(payload: TrainingPayload) -> None:
    """Without the number, and with one that there is not, that is all that is said."""
    without: dict[str, Any] = in_format_1(payload)
    del without["format_version"]
    expected = "format_version: expected a value, found nothing"
    _is_refused_with(without, [expected])

    unknown = in_format_1(payload) | {"format_version": FORMAT_VERSION + 1}
    _is_refused_with(
        unknown, [f"format_version: expected a number from 1 to {FORMAT_VERSION}, found {FORMAT_VERSION + 1}"]
    )


def _is_refused_with(data: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        payload_from_json(json.dumps(data))
    assert error.value.subject == "training payload"
    assert [str(problem) for problem in error.value.problems] == problems


@pytest.mark.parametrize("record", ["training", "pt_inference", "provenance"])
def test_a_record_that_is_none_is_said_so(payload: TrainingPayload, record: str) -> None:
    """Nothing is added to it, and the reading names it."""
    data = in_format_1(payload) | {record: 5}

    with pytest.raises(ConfigError) as error:
        payload_from_json(json.dumps(data))

    assert record in {problem.path for problem in error.value.problems}


def test_what_was_read_stays_as_it_was(payload: TrainingPayload) -> None:
    """The data are brought up in a copy, records and all."""
    data = in_format_1(payload)
    before = json.loads(json.dumps(data))

    result, added, problems = brought_up(_Stored, data, 1)

    assert data == before
    assert (set(added), problems) == (set(AS_THEN), [])
    assert result["pt_inference"] != data["pt_inference"]


def test_the_present_format_is_that_of_the_newest_field() -> None:
    """One number for all, that of the field that came last."""
    assert newest(_Stored) == FORMAT_VERSION == 4


def test_a_format_is_never_added_to() -> None:
    """So many fields were there when it was left: a new one says `since=Since(version=..., before=...)` in its record.

    The number is the next one, or the present one if no version was released with it.
    """
    fields = Counter(field.since.version for field in _fields(_Stored))

    assert (fields[1], fields[2], fields[3], fields[4]) == (267, 15, 1, 4)
    assert sorted(fields) == list(range(1, FORMAT_VERSION + 1))
