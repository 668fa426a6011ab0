"""Tests of the engine: no Ray, and no vLLM but where marked."""
