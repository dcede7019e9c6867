"""A stack of template.yaml without an account: moto simulates AWS over HTTP, and the functions are emulated."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import attrs
from boto3.session import Session

from support.chain import Chain, chained
from support.emulator import Event, Function, FunctionError, Tools, emulated
from support.template import ROOT, environment_of, translated

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_s3 import S3Client

REGION, ACCOUNT = "us-east-1", "123456789012"  # moto's defaults
AWS_TOOLS = ROOT / ".venv-aws"
HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"

_BUILD_SECONDS = 600
_TEMPLATE = translated()
_SERVICES = ("S3", "SQS", "SECRETS_MANAGER", "SNS", "EVENTBRIDGE")


def built(folder: Path, *, runtime: str = HERE, architecture: str = "x86_64") -> Path:
    """Build the package with the SAM CLI.

    Args:
        folder: An empty folder.
        runtime: The Lambda runtime.
        architecture: The Lambda architecture.

    Returns:
        The folder that Lambda would unpack as /var/task.
    """
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "RUNTIME_PYTHON": runtime}
    if runtime == HERE:
        environment["RUNTIME_PYTHON"] = sys.executable
    # The functions share one package.
    subprocess.run(  # noqa: S603 - our own words
        [
            *(AWS_TOOLS / "bin/sam", "build", "ImportFunction", "--build-dir", folder),
            *("--parameter-overrides", f"Runtime={runtime}", f"Architecture={architecture}"),
        ],
        cwd=ROOT,
        env={**environment, "PATH": f"{AWS_TOOLS / 'bin'}{os.pathsep}{environment['PATH']}"},
        check=True,
        timeout=_BUILD_SECONDS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    return folder / "ImportFunction"


@attrs.frozen
class Stack:
    """The parts of a template's stack that an upload passes through.

    Attributes:
        chain: The uploads bucket, and the queue that it notifies.
        inbox: The inbox of the Web API, and the queue that it notifies.
        reports_bucket: The name of the reports bucket.
        announced: The URL of a queue with the events of S3 about new receipts. moto invokes no function.
        outcomes: The URL of a queue that subscribes to the topic of outcomes.
        package: The package of the functions.
        values: The values of the template's parameters and attributes.
        endpoint: The address of the simulated AWS.
    """

    chain: Chain
    inbox: Chain
    reports_bucket: str
    announced: str
    outcomes: str
    package: Path
    values: Mapping[str, str]
    endpoint: str

    @contextmanager
    def running(self, function: str, *, timeout_seconds: int = 60) -> Iterator[Function]:
        """Start a function of the template, with the environment that the template sets."""
        environment = {
            **environment_of(_TEMPLATE, function, self.values),
            **{f"AWS_ENDPOINT_URL_{service}": self.endpoint for service in _SERVICES},
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
        handler = _TEMPLATE["Resources"][function]["Properties"]["Handler"]
        with (
            TemporaryDirectory() as folder,
            emulated(
                Tools.installed_in(AWS_TOOLS),
                # The interpreter outside any virtual environment, so that no package of it is visible.
                Path(sys._base_executable),  # type: ignore[attr-defined]  # noqa: SLF001 - venv uses it, too
                self.package,
                handler,
                environment,
                Path(folder),
                timeout_seconds=timeout_seconds,
            ) as started,
        ):
            yield started

    def deliver(self, function: Function, chain: Chain | None = None) -> list[str]:
        """Invoke a function with the queued messages, as AWS does.

        Args:
            function: The function.
            chain: Has the queue; None for the queue of the uploads.

        Returns:
            The bodies of the messages to deliver again.
        """

        def invoke(event: Event) -> "PartialItemFailureResponse | None":
            try:
                answer: PartialItemFailureResponse | None = function(event)
            except FunctionError:
                # If the function fails as a whole, the whole batch is delivered again.
                return {
                    "batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in event["Records"]]
                }
            return answer

        return (chain or self.chain).hand_over(invoke)

    def notify(self, function: Function) -> list[dict[str, Any]]:
        """Invoke the notify function for each new receipt, as S3 does, and return the messages of the topic."""
        for record in self.chain.receive(self.announced)["Records"]:
            function(json.loads(record["body"]))
            self.chain.sqs.delete_message(QueueUrl=self.announced, ReceiptHandle=record["receiptHandle"])
        outcomes = self.chain.receive(self.outcomes)["Records"]
        for record in outcomes:
            self.chain.sqs.delete_message(QueueUrl=self.outcomes, ReceiptHandle=record["receiptHandle"])
        return [json.loads(record["body"]) for record in outcomes]

    def reports(self) -> dict[str, bytes]:
        """Return every object of the reports bucket, by key."""
        listed = self.chain.s3.list_objects_v2(Bucket=self.reports_bucket).get("Contents", [])
        return {
            item["Key"]: self.chain.s3.get_object(Bucket=self.reports_bucket, Key=item["Key"])["Body"].read()
            for item in listed
        }

    def receipts(self) -> list[dict[str, Any]]:
        """Return the receipts, in the order of their imports."""
        receipts = [json.loads(data) for key, data in self.reports().items() if key.endswith("/receipt.json")]
        return sorted(receipts, key=lambda receipt: (receipt["started"], receipt["source"]["version"]))


def stacked(package: Path, endpoint: str, prefix: str, **parameters: str) -> Stack:
    """Make a stack.

    Args:
        package: See `built`.
        endpoint: The address of moto.
        prefix: The parameter `BucketPrefix`.
        parameters: Other parameters, for example `DatabaseUrl`.
    """
    s3: S3Client = Session().client("s3", region_name=REGION, endpoint_url=endpoint)
    uploads, inbox, reports = (f"{prefix}-{kind}-{ACCOUNT}-{REGION}" for kind in ("uploads", "inbox", "reports"))
    for bucket in (uploads, inbox, reports):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    chain = chained(s3, uploads)
    sns = Session().client("sns", region_name=REGION, endpoint_url=endpoint)
    topic = sns.create_topic(Name=f"{prefix}-outcomes")["TopicArn"]
    announced, outcomes = (
        chain.sqs.create_queue(QueueName=f"{prefix}-{name}")["QueueUrl"] for name in ("receipts", "outcomes")
    )
    queues = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{prefix}"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"{queues}-outcomes")
    receipts: Any = {"Key": {"FilterRules": [{"Name": "suffix", "Value": "/receipt.json"}]}}
    s3.put_bucket_notification_configuration(
        Bucket=reports,
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": f"{queues}-receipts", "Events": ["s3:ObjectCreated:*"], "Filter": receipts}
            ]
        },
    )
    values = {
        "AWS::AccountId": ACCOUNT,
        "AWS::Region": REGION,
        "AWS::URLSuffix": "amazonaws.com",
        "Queue.Arn": chain.arn,
        "OutcomeTopic": topic,
        "BucketPrefix": prefix,
        "ApiAuth": "iam",
        **parameters,
    }
    return Stack(chain, chained(s3, inbox), reports, announced, outcomes, package, values, endpoint)
