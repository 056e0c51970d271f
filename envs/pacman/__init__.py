"""Pac-Man in small mazes."""
