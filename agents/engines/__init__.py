"""Engines: token ids in, sampled token ids with their log-probs out."""
