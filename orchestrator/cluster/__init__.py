"""Ray as a place to be in: how it is joined or started, its nodes, sending it a job."""
