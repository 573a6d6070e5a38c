"""The jupyter-server extension of OmniRT Lab: metrics, jobs, traces, streams and the generation API."""
