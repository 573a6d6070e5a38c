"""Pure, incremental readings of a job's events: report, timeline, diagnosis. No torch, Jupyter or SQL in here."""
