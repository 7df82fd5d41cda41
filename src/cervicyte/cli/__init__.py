"""The command line; heavy imports stand inside each command, so that help is instant."""
