"""What a study declares, statistics over its seeds, and the page that shows them."""
