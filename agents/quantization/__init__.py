"""Weights in few bits: exact through bitsandbytes, planned by measured damage, compared."""
