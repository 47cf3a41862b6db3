"""The commands of gmm-np, a module each; its `add_command(commands)` is all that `cli` calls."""
