"""Stand-ins for instruments, shipped beside the real thing: they say what they are, and so do the figures."""
