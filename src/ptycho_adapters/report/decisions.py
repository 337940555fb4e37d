"""What a reconstruction decided by itself, and why: one line each, for people and files."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import attrs

from ptycho_adapters.common.findings import POOR_FIT_RATIO
from ptycho_adapters.wording import source_in_words
from ptycho_core.config.overrides import Layer
from ptycho_core.measurement.findings import Suspicion
from ptycho_core.measurement.scan import DOMAIN_EVIDENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ptycho_adapters.common.model import ModelRecord
    from ptycho_core.config.payload import InferencePayload
    from ptycho_core.measurement.findings import Finding
    from ptycho_core.measurement.scan import Scan
    from ptycho_core.results.reconstruction import Reconstruction

_AT_THE_NOISE = (0.95, 1.1)  # of the deviance that shot noise leaves


class Subject(StrEnum):
    """What a decision is about."""

    SCAN = "scan"
    MODEL = "model"
    PROBE = "probe"
    PUT_RIGHT = "put right"
    FINISH = "finish"
    FIT = "fit"


@attrs.frozen(kw_only=True)
class Decision:
    """One decision with its reason.

    Attributes:
        about: what it is about.
        text: for people.
    """

    about: Subject
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


def decisions_before(scan: Scan, payload: InferencePayload, found: Sequence[Finding]) -> tuple[Decision, ...]:
    """Return what is decided once a scan is read.

    Args:
        scan: as read.
        payload: settings of the run.
        found: what is suspicious about it.
    """
    evidence = scan.metadata.extra.get(DOMAIN_EVIDENCE, "")
    read = f"{scan.n_patterns} patterns of {scan.N} px, read as {scan.domain}" + (f" ({evidence})" if evidence else "")
    count = len(found)
    look = f"{count} thing{'s' if count > 1 else ''} to look at, see the warnings" if count else "nothing suspicious"
    path, source = payload.tf_inference_config.model_path, payload.provenance["model_path"]
    model = "the weights in the package, as no --model-path names others" if source.default else f"{path}, as asked"
    return (
        Decision(about=Subject.SCAN, text=f"{read}; {look}"),
        Decision(about=Subject.MODEL, text=model),
    )


def decisions_after(result: Reconstruction, model: ModelRecord, payload: InferencePayload) -> tuple[Decision, ...]:
    """Return what was decided on the way to a result.

    Args:
        result: of the run.
        model: that made it.
        payload: settings of the run.
    """
    return (
        Decision(about=Subject.PROBE, text=_probe(result, model, payload)),
        *_put_right(result),
        Decision(about=Subject.FINISH, text=_finish(result, payload)),
        Decision(about=Subject.FIT, text=_fit(result)),
    )


def _probe(result: Reconstruction, model: ModelRecord, payload: InferencePayload) -> str:
    whose = "the scan's own" if result.probe_source == "scan" else "the model's"
    source = payload.provenance["probe_rounds"]
    if result.probe_refined:
        why = (
            f"as the {source_in_words(source)} asks"
            if source.chosen
            else "since the network can tell what is wrong with it"
        )
        return f"{whose}, refined in rounds with the network, {why}"
    if result.probe_stays:
        why = "the counts are so few that a refined one explains no more than noise that is followed"
    elif source.chosen:
        why = f"as the {source_in_words(source)} asks"
    elif source is Layer.BACKEND:
        why = f"backend {payload.tf_inference_config.backend} takes it as it is"
    elif model.probe_refined:
        why = "a network that began with random weights cannot tell what is wrong with it"
    else:
        why = "the model was made for the one of its scan"
    return f"{whose}, not refined: {why}"


def _put_right(result: Reconstruction) -> Iterator[Decision]:
    found = [each for each in result.findings if each.kind is not Suspicion.POOR_FIT]
    for text in [each.text for each in found] or ["nothing: what was looked for is as it was given"]:
        yield Decision(about=Subject.PUT_RIGHT, text=text)


def _finish(result: Reconstruction, payload: InferencePayload) -> str:
    wish, source, figures = payload.pt_inference_config.finish, payload.provenance["finish"], result.metrics
    if wish == "none":
        backend = payload.tf_inference_config.backend
        return f"none: backend {backend} makes none" if source is Layer.BACKEND else "none: none was asked for"
    steps = round(figures["finish_steps"])
    made = f"{steps} step{'s' if steps > 1 else ''}"
    if steps:
        fell = f"R-factor {figures['pass_r_factor']:.3g} to {figures['r_factor']:.3g}"
        if wish != "auto":
            return f"kept, {made} as asked: {fell}; nothing was left out to judge it"
        gain = figures["finish_gain"]
        told = f"fell by {gain:.4g}" if gain > 0.0 else f"rose by {-gain:.4g}, no more than noise explains"
        end = "; a step beyond that they refused" if "finish_refused" in figures else ""
        return f"kept, {made}: the half deviance of the pixels left out of the fit {told}; {fell}{end}"
    refused = figures.get("finish_refused")
    if refused is None:
        return "none: no step lowers the misfit"
    return f"refused: the half deviance of the pixels left out of the fit would rise by {refused:.4g}"


def _fit(result: Reconstruction) -> str:
    figures = result.metrics
    ratio = figures["deviance_per_px"] / figures["expected_deviance_per_px"]
    return (
        f"R-factor {figures['r_factor']:.3g}, of which shot noise alone leaves {figures['expected_r_factor']:.3g}; "
        f"deviance {ratio:.3g} times that of shot noise, {_in_words(ratio)}"
    )


def _in_words(ratio: float) -> str:
    low, high = _AT_THE_NOISE
    if ratio < low:
        return "below it, so that noise is followed"
    if ratio < high:
        return "at the noise"
    return "above it" if ratio < POOR_FIT_RATIO else "poor, far above it"
