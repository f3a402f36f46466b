"""Alembic's environment: runs on the connection that `open_store` hands over."""

from alembic import context

from serving.monitor.store.schema import Base

# `context.config` is there only while Alembic runs this file; whoever merely imports it (doctest, mypy) gets nothing
if getattr(context, "config", None) is not None:
    context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
    context.run_migrations()
