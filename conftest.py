"""What all tests share: one thread per process, and the profiles of hypothesis.

Tiny tensors are quicker on one thread, several processes run tests side by side, and the machine may have other work.
The numerical libraries read the environment when they are loaded, in this process and in those that tests start.

Profiles: dev draws anew each time; ci, which `make tests` asks for, draws the same every time, so that only a change
can turn it red; nightly draws a hundred times as much, by hand. HYPOTHESIS_PROFILE chooses.
"""

from __future__ import annotations

import os

from hypothesis import settings

for _library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("nightly", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
