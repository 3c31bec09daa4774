"""The event loop's tools: one epoll, one timer, greenlets that are used again."""
