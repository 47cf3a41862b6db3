"""Adapters of libraries that the project does not depend on, each run in its own environment."""
