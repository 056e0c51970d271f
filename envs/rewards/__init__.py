"""Rewards: small named judges of an action, with declared ranges, that a rubric weighs."""
