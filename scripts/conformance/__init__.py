"""What the report of peers and the list of faults share: environments of foreign libraries."""
