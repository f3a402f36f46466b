"""gRPC serving of replicas and what watches them: server, client, gateway, monitor, dashboard."""
