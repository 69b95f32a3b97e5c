"""The page of `rvm serve`: its queue of jobs, uploads, HTTP API and security."""
