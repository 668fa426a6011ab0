"""`verbatim learn`: networks that propose soft prompts, trained through one frozen model on a corpus."""
