"""Who may ask this dashboard for something, and what."""
