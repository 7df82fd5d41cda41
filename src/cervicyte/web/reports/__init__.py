"""What is decided leaves as reports, exports, history and numbers over time."""
