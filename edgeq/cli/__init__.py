"""The command line: the only place that prints, exits, and turns errors into codes."""
