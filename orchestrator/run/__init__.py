"""`verbatim run`: from options to a finished folder."""
