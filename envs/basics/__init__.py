"""Basics: short exercises in reading and writing."""
