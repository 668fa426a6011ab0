"""`verbatim decode`: what a stored prompt says, and how it is shown."""
