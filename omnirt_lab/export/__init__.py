"""Reports and traces in the formats of other tools."""
