"""`verbatim verify`: stored prompts proved again, and how much they withstand."""
