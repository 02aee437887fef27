"""League of systems: the same text and the same processor time each, scored by the truth of a small language [ours]."""
