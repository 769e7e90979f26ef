"""The command line: `qm` and `QueueManager`."""
