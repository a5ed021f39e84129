"""Decides what a deployment does about the role with which API Gateway writes logs, and says so.

The role is one for the account and region, whoever set it. A stack makes one only where there is none, and never
replaces another's: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html
"""

import sys
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from environment import parameters


def role_of_the_stack(session: boto3.Session, stack: str) -> str | None:
    """The name of the role that the stack has made, if it has."""
    try:
        found = session.client("cloudformation").describe_stack_resource(
            StackName=stack, LogicalResourceId="ApiLogsWriter"
        )
    except ClientError as error:
        # There is no such stack, or no such resource in it.
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise
    return found["StackResourceDetail"]["PhysicalResourceId"]


def decide(wanted: str, current: str | None, own: str | None) -> tuple[str, str]:
    """What ApiLogsRole has to be, and why, from what the environment wants, the ARN of the account's role, and the
    name of the stack's.
    """
    if current is None:
        if wanted == "keep":
            sys.exit(
                "API Gateway has no role to write logs with in this account and region, and ApiLogsRole is keep; "
                "set ApiLogsRole to create, or give API Gateway a role"
            )
        return "create", "API Gateway has no role to write logs with in this account and region: the stack makes one"
    if wanted == "create" and own == current.rpartition("/")[2]:
        return "create", f"API Gateway writes logs with the stack's own role {current}: it stays"
    return "keep", f"API Gateway writes logs with {current}: it is kept, and the stack makes none"


def main(file: Path, stack: str) -> None:
    try:
        session = boto3.Session()
        current = session.client("apigateway").get_account().get("cloudwatchRoleArn")
        own = role_of_the_stack(session, stack)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"cannot look up which role API Gateway writes logs with: {error}")
    role, why = decide(parameters(file)["ApiLogsRole"], current, own)
    print(why, file=sys.stderr)
    print(f"ApiLogsRole={role}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
