"""Engines run a step's independent items; they decide speed, never bytes."""
