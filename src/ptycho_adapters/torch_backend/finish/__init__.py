"""A reconstruction brought to what the counts allow: likelihood of all of them, the network's object as a prior."""
