"""Resident solvers and a verifier for whoever has a recipe to try."""
