"""Pac-Man: mazes, ghosts, and what a policy reads of them."""
