"""Students and teachers compared at the same number of steps."""
