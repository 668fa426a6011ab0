"""Who gets how much memory, and where: served lengths, tables, caches, devices."""
