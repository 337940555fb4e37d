"""What this machine does at best: convolution, matrix product, FFT and copy rates: `python benchmarks/machine.py`.

Other benchmarks put their figures beside these, in the same run. A rate is the best of several repeats on tensors large
enough for the device: 3x3 convolutions of 64 channels (channels last) as U-Nets have them, square matrix products,
batches of two-dimensional complex64 transforms, copies within the device's memory and to it.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING

from charts import Panel, draw
from harness import Figures, in_fresh_process, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

_CHANNELS = 64
_IMAGE_PX = 64
_BATCH = {"cpu": 8, "cuda": 256}
_MATRIX = {"cpu": 1536, "cuda": 8192}
_TRANSFORMS = {"cpu": 64, "cuda": 4096}
_COPY_MB = {"cpu": 256, "cuda": 2048}
_LEAST_S, _LEAST_REPEATS = 0.4, 5


def rates(*, device: str, threads: int, fft_px: int = 128, formats: Sequence[str] = ("float32", "bf16")) -> Figures:
    """Measure a device.

    Args:
        device: `cpu` or `cuda`.
        threads: CPU threads.
        fft_px: side of the transforms.
        formats: of numbers in convolutions and matrix products; a processor without instructions for one takes long.

    Returns:
        GFLOP/s of convolutions and matrix products, transforms per second, GB/s of copies (read and
        written bytes together within memory; moved bytes to the device).
    """
    import torch  # noqa: PLC0415 - in the fresh process only

    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    found: Figures = {"device": name_of(device), "threads": threads}
    with torch.inference_mode():
        kinds = {"float32": torch.float32, "bf16": torch.bfloat16}
        for word, dtype in ((word, kinds[word]) for word in formats):
            found[f"convolution_{word}_gflop_per_s"] = _convolution(device, dtype)
            found[f"matrix_{word}_gflop_per_s"] = _matrix(device, dtype)
        waves = torch.randn(_TRANSFORMS[device], fft_px, fft_px, dtype=torch.complex64, device=device)
        found[f"fft_{fft_px}px_per_s"] = len(waves) / least_seconds(lambda: torch.fft.fft2(waves), device)
        block = torch.empty(_COPY_MB[device] * 1_000_000, dtype=torch.uint8, device=device)
        target = torch.empty_like(block)
        found["copy_gb_per_s"] = 2e-9 * len(block) / least_seconds(lambda: target.copy_(block), device)
        if device == "cuda":
            pinned = torch.empty(len(block), dtype=torch.uint8).pin_memory()
            found["to_device_gb_per_s"] = 1e-9 * len(block) / least_seconds(lambda: target.copy_(pinned), device)
    return found


def name_of(device: str) -> str:
    """Return what the device is called."""
    import torch  # noqa: PLC0415

    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def least_seconds(work: Callable[[], object], device: str) -> float:
    """Time a piece of work: the least of repeats that together last long enough, after one that does not count."""
    synchronise(device)
    work()
    synchronise(device)
    least, total, repeats = math.inf, 0.0, 0
    while total < _LEAST_S or repeats < _LEAST_REPEATS:
        started = time.perf_counter()
        work()
        synchronise(device)
        seconds = time.perf_counter() - started
        least, total, repeats = min(least, seconds), total + seconds, repeats + 1
    return least


def synchronise(device: str) -> None:
    """Wait until the device is done."""
    if device == "cuda":
        import torch  # noqa: PLC0415

        torch.cuda.synchronize()


def _convolution(device: str, dtype: torch.dtype) -> float:
    import torch  # noqa: PLC0415

    batch = _BATCH[device]
    layer = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, device=device, dtype=dtype)
    layer = layer.to(memory_format=torch.channels_last)
    images = torch.randn(batch, _CHANNELS, _IMAGE_PX, _IMAGE_PX, device=device, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    operations = 2 * 9 * _CHANNELS**2 * _IMAGE_PX**2 * batch
    return 1e-9 * operations / least_seconds(lambda: layer(images), device)


def _matrix(device: str, dtype: torch.dtype) -> float:
    import torch  # noqa: PLC0415

    side = _MATRIX[device]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2e-9 * side**3 / least_seconds(lambda: a @ b, device)


def main() -> None:
    """Measure every device asked for and write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", nargs="+", default=["cpu"], choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the CPU")
    asked = parser.parse_args()
    wanted = [("cpu", threads) for threads in asked.threads if "cpu" in asked.devices]
    wanted += [("cuda", 1)] if "cuda" in asked.devices else []
    cases = [in_fresh_process(rates, {"device": device, "threads": threads}) for device, threads in wanted]
    write("machine", cases)
    names = [name for name in cases[0] if name.endswith("gflop_per_s")]
    lines = {f"{case['device']}, {case['threads']} threads": (names, [case[name] for name in names]) for case in cases}
    lines = {label: ([n.removesuffix("_gflop_per_s") for n in x], y) for label, (x, y) in lines.items()}
    draw("machine", [Panel(title="best rates", x="", y="GFLOP/s", lines=lines, y_scale="log")])


if __name__ == "__main__":
    main()
