"""Every page of the built site in headless Chromium: `python docs/tools/look.py build/site build/looks`.

Light, dark and on a phone of 390 px, as files, with no host to be reached. A message of the console, a request that
leads out of the site, a page wider than its window or one scheme for both is a fault, and so is a search that finds
nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import browser

if TYPE_CHECKING:
    from collections.abc import Iterator

_WINDOWS = ((False, 1280), (True, 1280), (False, 390), (True, 390))


def faults(site: Path, looks: Path) -> Iterator[str]:
    """Give what is wrong with the pages of a site, in words.

    Args:
        site: folder with the pages.
        looks: folder that gets a picture of each page in each window.
    """
    looks.mkdir(parents=True, exist_ok=True)
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    backgrounds: dict[bool, set[str]] = {False: set(), True: set()}
    for dark, width_px in _WINDOWS:
        for page, seen in browser.visit_all(pages, dark=dark, width_px=width_px, folder=looks):
            name = f"{page.relative_to(site)} at {width_px} px, {'dark' if dark else 'light'}"
            backgrounds[dark].add(seen.background)
            yield from (f"{name}: {message}" for message in seen.messages)
            yield from (f"{name} asks for {address}" for address in seen.requests if not _inside(address, site))
            if seen.overflow_px > 0:
                yield f"{name} is {seen.overflow_px} px too wide"
    if backgrounds[False] & backgrounds[True]:
        yield f"light and dark look alike: {backgrounds}"
    if not any("probe" in hit.lower() for hit in browser.search(site / "search.html", "probe", "ul.search li")):
        yield "the search for 'probe' finds nothing of that name"


def _inside(address: str, site: Path) -> bool:
    return address.startswith((site.resolve().as_uri(), "data:", "blob:"))


def main() -> int:
    """Look at the site that the command line names and say what is wrong with it."""
    missing = browser.missing()
    found = [missing] if missing else list(faults(Path(sys.argv[1]).resolve(), Path(sys.argv[2])))
    sys.stdout.write("\n".join([*found, f"{len(found)} faults"]) + "\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
