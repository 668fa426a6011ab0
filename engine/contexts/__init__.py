"""Context policies: what the model reads at target positions while a prompt is trained.

Owns: the policies and what they are given. Must not know: losses, slots, optimisers.

Whatever is random is drawn from the text's own generator, so a text gets the same context alone and in company.
"""

from engine.contexts.policies import POLICIES, Policy, policy_of
from engine.contexts.texts import Setting, Texts, setting_at

__all__ = ["POLICIES", "Policy", "Setting", "Texts", "policy_of", "setting_at"]
