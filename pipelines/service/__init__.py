"""Takes requests over HTTP: keys of clients, the queue of their jobs, and what carries the jobs out."""
