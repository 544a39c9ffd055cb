"""What a study declares, what many seeds say together, and the page that shows it."""
