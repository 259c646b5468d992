"""Predictions against the truth: scores, and the report that shows them."""
