"""What the web application stands on: database, store of pictures, audit log, credentials, mail."""
