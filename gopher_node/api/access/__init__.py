"""Who may reach the API, and do what: keys, limits, TLS, other origins."""
