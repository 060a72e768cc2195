"""Workers over HTTP: how they wait for jobs, who they are, and how their runs end."""
