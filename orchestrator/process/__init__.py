"""What one operating-system process has and meets: memory, signals, standard input, reasons why it died."""
