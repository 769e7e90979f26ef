"""Vocabulary: configuration, job file formats, records, states, errors. Pure: nothing here touches the system."""
