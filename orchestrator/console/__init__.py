"""What a person at a terminal is told: errors in one line, progress, texts that nothing in a terminal acts on."""
