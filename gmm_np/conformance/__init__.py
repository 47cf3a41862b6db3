"""Certified vectors, and a runner that says what an implementation gets wrong."""
