"""One call with boto3: SERVICE ENDPOINT OPERATION MEMBERS. Prints the answer, or the exception, as JSON."""

import json
import sys

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError

service, endpoint, operation, members = sys.argv[1:]
client = boto3.client(service, endpoint_url=endpoint or None)
try:
    answer = getattr(client, xform_name(operation))(**json.loads(members))
except ClientError as error:
    answer = {
        "type": type(error).__name__,
        "code": error.response["Error"]["Code"],
        "message": error.response["Error"]["Message"],
        "requestId": error.response["ResponseMetadata"]["RequestId"],
    }
print(json.dumps(answer, default=str))  # times are objects
