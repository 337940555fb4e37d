"""Version of the code, as written into every archive and result."""

VERSION = "0.2.0"
