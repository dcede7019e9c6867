"""The Web API behind HTTP on this machine: the local twin of API Gateway."""
