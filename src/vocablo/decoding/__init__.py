"""How the next token is chosen: greedy, sampling; one step protocol for every family."""
