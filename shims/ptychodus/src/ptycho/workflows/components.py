"""Stands in for the module of this name that Ptychodus looks for; everything is done by `ptycho_adapters.ptychodus`."""

from ptycho_adapters.ptychodus.tensorflow_library import load_inference_bundle, run_cdi_example, save_outputs

__all__ = ["load_inference_bundle", "run_cdi_example", "save_outputs"]
