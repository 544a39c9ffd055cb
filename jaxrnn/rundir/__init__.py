"""The directory of a command: its files, its checkpoints, and how they are read back."""
