"""Example plug-ins for han-retrieval."""
