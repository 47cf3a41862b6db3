"""What the teaching tools share: the walk, the exercises and the notebook."""
