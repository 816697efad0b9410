"""A model's version: its identity, the attempts to verify it, its aliases and its stage."""
