"""Customer support: a user with a need, a desk with a policy, minutes that cost."""
