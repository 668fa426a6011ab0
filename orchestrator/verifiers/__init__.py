"""What a verifier is, and the engines that are one: vLLM and transformers."""
