"""Flax modules and models, losses, and text generation."""
