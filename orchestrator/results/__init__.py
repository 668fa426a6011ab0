"""What a results folder holds: rows, records, log, open attempts; and what they add up to."""
