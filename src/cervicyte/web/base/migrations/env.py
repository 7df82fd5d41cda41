"""How Alembic runs: on the connection and in the transaction that `web.base.database.Database.upgrade` gives."""

from __future__ import annotations

from alembic import context

from cervicyte.web.base.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    # One transaction around all versions, SQLite's too: a kill leaves the tables as they were.
    transactional_ddl=True,
)
context.run_migrations()
