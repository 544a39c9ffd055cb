"""Tasks on sequences of symbols, a file each."""
