"""Everything that touches the world: files, frameworks, the legacy dictionary, the command line."""
