"""Recipes: configurations that come along, by name."""
