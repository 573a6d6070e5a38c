"""Pipelines in hand: found, loaded, watched, cached and measured. Torch and diffusers live here and in `executors`."""
