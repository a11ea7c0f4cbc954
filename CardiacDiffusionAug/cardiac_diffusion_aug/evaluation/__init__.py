"""Measures of synthetic hearts beside real ones."""
