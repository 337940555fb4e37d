"""How close two objects are: read them, choose the area that is judged, compare."""
