"""What a person at a terminal is told: errors in one line, progress, texts made harmless."""
