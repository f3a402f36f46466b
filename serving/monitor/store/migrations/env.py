"""Alembic's environment: runs on the connection that `open_store` hands over."""

from alembic import context

from serving.monitor.store.schema import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata)
context.run_migrations()
