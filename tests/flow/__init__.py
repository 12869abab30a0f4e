"""Whole services, as users start and use them."""
