"""`verbatim export`: stored prompts as files that other programs read."""
