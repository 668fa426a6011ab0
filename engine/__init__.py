"""The optimiser: one resident frozen model, many soft prompts. PyTorch and transformers only, no Ray."""
