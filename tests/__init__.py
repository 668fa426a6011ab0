"""Tests, one folder a package, mirroring the tree."""
