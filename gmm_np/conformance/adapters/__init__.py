"""Adapters of libraries, as examples and for the report of docs/conformance.md.

Each module names in REQUIRES the distributions that it needs, and imports them when it is called.
``gmm-np conformance --python gmm_np.conformance.adapters.pytorch:mixture_same_family`` runs one.
"""
