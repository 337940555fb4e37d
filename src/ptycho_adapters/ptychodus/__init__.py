"""For the Ptychodus client: its data as ours, our results as its own, and what its two PtychoPINN libraries call.

Nothing here is imported by the rest of the package. `reconstructor` needs the client; the other modules do not. None
loads torch or TensorFlow before there is work for them.
"""
