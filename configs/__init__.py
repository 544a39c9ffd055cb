"""One typed config per experiment; its docstring has the command and the result to expect."""
