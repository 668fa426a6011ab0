"""The loop over solvers and a verifier that a run and a search share, and what is said of it."""
