"""The tracer of the Lambdas. It loads botocore, so the Web API does without it."""

from aws_lambda_powertools import Tracer

from rollcall.entrypoints.lambda_runtime import SERVICE

# Only calls of AWS are traced. By default, the X-Ray SDK would also wrap the connection to the database.
tracer = Tracer(service=SERVICE, patch_modules=["botocore"])
