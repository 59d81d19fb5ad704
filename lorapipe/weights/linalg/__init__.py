"""Bases, singular values and random rotations of tall matrices."""
