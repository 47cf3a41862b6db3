"""Certified vectors for any implementation of the mixture likelihood, and what runs them."""
