"""League of systems: the same text and the same processor time each, judged by the truth of a small language [ours]."""
