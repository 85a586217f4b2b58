"""The command line: one file a command. This is the only place that talks to a terminal."""
