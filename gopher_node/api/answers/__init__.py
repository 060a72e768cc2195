"""What answers look like: documents, problems, and their description."""
