"""What a command does from end to end: train, evaluate, demonstrate."""
