"""The daemon: one loop that wakes, looks, decides and acts."""
