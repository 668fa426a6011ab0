"""Learned correction: small networks that propose soft prompts, trained through a frozen model on their own outputs.

After Vec2Text (Morris et al. 2023, 2310.06816), carried over to soft prompts: docs/correction.md.
"""
