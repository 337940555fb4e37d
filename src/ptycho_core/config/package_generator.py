"""Names of networks that other packages bring along."""

from __future__ import annotations

import re
from typing import Self

_FORM = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


class PackageGenerator(str):
    """Name of a generator of another package, `package:name`, which stands where an own architecture does.

    The package is a distribution as installers know it, in lower case and with hyphens, so that a message can say what
    to install; the name is one that it declares. Whether there is such a package is not known here.

    Raises:
        ValueError: the text has another form.
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """Check the form."""
        if not cls.fits(name):
            message = f"expected {cls.form()}, found {name!r}"
            raise ValueError(message)
        return super().__new__(cls, name)

    @staticmethod
    def fits(value: object) -> bool:
        """Tell whether a value has the form of such a name."""
        return isinstance(value, str) and _FORM.fullmatch(value) is not None

    @staticmethod
    def form() -> str:
        """Say the form in words."""
        return "'package:name' for the generator of an installed package (lower case, hyphens)"

    @property
    def package(self) -> str:
        """Distribution that brings it."""
        return self.partition(":")[0]

    @property
    def generator(self) -> str:
        """What the distribution calls it."""
        return self.partition(":")[2]
