"""Live and interactive views in a notebook."""
