"""OmniRT Lab: run diffusion pipelines in Jupyter and see where the time and memory went."""

__version__ = "0.1.0"
