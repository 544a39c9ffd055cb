"""The studies' binaries and reports; the only place that reads command-line flags."""
