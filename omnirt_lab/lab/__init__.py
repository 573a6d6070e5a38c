"""The one object behind the public API: `omnirt_lab.generate` and its kin are methods of the process's `Lab`."""
