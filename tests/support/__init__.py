"""What tests share: generated cells, commands, servers, databases, browsers."""
