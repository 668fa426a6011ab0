"""`verbatim doctor`: would a run work here, on this machine and on this model."""
