"""The check before a long run: data, network, memory and time, each told in a line, and whether to go."""
