"""The actors: solvers and verifiers, started, replaced, let go."""
