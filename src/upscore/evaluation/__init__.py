"""Predictions against the truth: metrics, and the report that shows them."""
