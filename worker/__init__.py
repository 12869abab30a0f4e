"""The processes that run models: live answers and durable jobs."""
