"""Flax modules and models, losses, and how a model writes."""
