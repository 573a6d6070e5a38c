"""What a person sees of a report: text, a PNG, a plotly figure. The only place that rounds and converts units."""
