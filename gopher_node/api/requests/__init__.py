"""What requests may say, and how it is read."""
