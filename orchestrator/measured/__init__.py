"""What is measured once about a model and kept: vectors for a text, the noise between two engines."""
