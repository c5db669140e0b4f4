"""The models: who waits for whom."""
