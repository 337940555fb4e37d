"""What the commands share: flags, parsing, settings, inputs and messages."""
