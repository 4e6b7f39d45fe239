"""Whole swarms in one process, without a network."""
