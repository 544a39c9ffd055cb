"""One file per task: functions of a key, or loaders of arrays."""
