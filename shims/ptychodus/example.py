"""From a scan file to a product of Ptychodus, in its batch mode and without a training.

    python example.py SCAN FOLDER [ALGORITHM]

The scan may be of any format that ptycho-core reads; what it lacks (pixel, wavelength, distance, probe) is named.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ptycho_adapters import read_scan, write_scan
from ptycho_adapters.ptychodus.models import write_shipped_model

SETTINGS = "[Processing]\nAlgorithm = {algorithm}\n"


def main(scan_file: str, folder: str, algorithm: str = "ptychopinn_pinn") -> int:
    """Write what the client needs, and run it."""
    staged, results = Path(folder) / "in", Path(folder) / "out"
    staged.parent.mkdir(parents=True, exist_ok=True)
    write_scan(read_scan(scan_file).as_counts(), staged)
    # A probe in a scan file is mostly a first guess.
    write_shipped_model(staged / ("model.ckpt" if "torch" in algorithm else "model.zip"), refine_probe=True)
    (staged / "settings.ini").write_text(SETTINGS.format(algorithm=algorithm))
    return subprocess.run(
        [sys.executable, "-m", "ptychodus", "-b", "reconstruct", "-i", str(staged), "-o", str(results)], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
