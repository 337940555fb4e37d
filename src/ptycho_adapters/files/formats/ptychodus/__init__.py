"""The files of the Ptychodus client."""
