"""What one process has and meets: memory, signals, standard input, reasons why it died."""
