"""Everything around the engine: command line, corpus, work queue, Ray actors, verification, results."""
