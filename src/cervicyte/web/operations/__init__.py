"""Keeping an installation alive: backup, restore, retention, metrics."""
