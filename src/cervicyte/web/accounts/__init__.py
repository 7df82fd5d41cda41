"""Who may come in: users, sessions, one-time codes, second factor, tokens, registration."""
