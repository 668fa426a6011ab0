"""Benches that need a GPU to say anything: one command each, for a machine that was never seen before."""
