"""What is known of all jobs without looking at their folders: tables that may be deleted at any moment."""
