"""Training as pure functions, where it takes place, and the loop that carries it out."""
