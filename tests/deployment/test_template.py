"""Checks of the template as CloudFormation receives it, which no linter makes; each check is shown to fail."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from enum import StrEnum
from typing import Any

import attrs
import pytest

from rollcall.adapters.aws_events import SOURCE
from rollcall.application.notification import GIVEN_UP, STATUSES
from rollcall.application.reports import RECEIPT_NAME
from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat
from rollcall.domain.receipt import Status
from rollcall.entrypoints.api import ROUTES
from rollcall.entrypoints.callers import Scope
from rollcall.entrypoints.token_lambda import OPERATORS
from rollcall.settings import PREFIX, DatabaseAuth, Settings, read_settings
from support.template import ROOT, Template, deployed, functions_of_routes, refusals, translated

Check = Callable[[Template], None]

GIB = 1024**3
FORTNIGHT = 14 * 24 * 3600

# Each function with its module in `rollcall.entrypoints`.
FUNCTIONS = {
    "ImportFunction": "import_lambda",
    "SweepFunction": "sweep_lambda",
    "NotifyFunction": "notify_lambda",
    "MigrateFunction": "migrate_lambda",
    "ApiFunction": "api_lambda",
    "UndoFunction": "api_lambda",
    "CheckFunction": "check_lambda",
    "TokenFunction": "token_lambda",
}
OF_THE_API = ("ApiFunction", "UndoFunction", "CheckFunction", "TokenFunction")
KEPT_BUCKETS = ("UploadsBucket", "ReportsBucket")
BUCKETS = (*KEPT_BUCKETS, "InboxBucket")
# Each queue with the bucket that notifies it, its function, the function's concurrency, and its dead-letter queue.
QUEUES = {
    "Queue": ("UploadsBucket", "ImportFunction", "ImportsAtOnce", "DeadLetterQueue"),
    "InboxQueue": ("InboxBucket", "CheckFunction", "ChecksAtOnce", "InboxDeadLetterQueue"),
}
ALL_QUEUES = [*QUEUES, *(dead for _, _, _, dead in QUEUES.values()), "NotifyDeadLetterQueue"]

JWT = {
    "ApiAuth": "jwt",
    "JwtIssuer": "https://issuer.example",
    "JwtAudience": "rollcall",
    "DatabaseSecretArn": "arn:importer",
    "OperatorSecretArn": "arn:operator",
}
POOL = {**JWT, "JwtIssuer": "", "JwtAudience": "", "UserPool": "create"}
SIGNED = {
    "ApiAuth": "iam",
    "DatabaseAuth": "iam",
    "DatabaseUrl": "postgresql://importer@host/d",
    "DatabaseUserArn": "arn:importer",
    "OperatorUrl": "postgresql://operator@host/d",
    "OperatorUserArn": "arn:operator",
}

# These actions take no resource; see https://docs.aws.amazon.com/service-authorization/.
NAMELESS = {
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    # The network interfaces that AWS Lambda creates in a VPC have no name beforehand.
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
}

# Settings that the template sets itself, and settings without use on Lambda.
GIVEN = {"uploads", "reports", "inbox", "bucket_owner", "queue", "notify_topic"}
ABSENT = {"data", "page_hosts", "sign_in"}
# Only the function that serves the page knows where people sign in.
OF_THE_PAGE = {"ROLLCALL_PAGE_HOSTS", "ROLLCALL_SIGN_IN"}
PAGE_HOSTS = "Resources/ApiFunction/Properties/Environment/Variables/ROLLCALL_PAGE_HOSTS"
# Lambda has less disk than a machine, and the package contains certificates.
OTHER_DEFAULTS = {"max_upload_bytes": str(GIB), "max_csv_bytes": str(4 * GIB), "database_ca": "/opt/ca-bundle.pem"}
CHOICES: dict[str, type[StrEnum]] = {
    "DatabaseAuth": DatabaseAuth,
    "OnDuplicate": OnDuplicate,
    "OnRepeat": OnRepeat,
    "OnNewVersion": OnNewVersion,
}


TEMPLATE = translated()


def properties(template: Template, name: str) -> dict[str, Any]:
    """Return a resource's properties."""
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def of_type(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """Return the properties of every resource of a type."""
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == f"AWS::{kind}"
    }


def everything(part: object) -> Iterator[Any]:
    """Yield every part of a template, on both sides of its conditions."""
    yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from everything(inner)


def listed(one_or_more: object) -> list[Any]:
    """Return a list for one value or several."""
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def only(things: Iterable[Any]) -> Any:  # noqa: ANN401 - any type
    """Return the only item."""
    found = list(things)
    assert len(found) == 1
    return found[0]


def statements(part: object, effect: str) -> list[dict[str, Any]]:
    """Return every statement of a policy with an effect."""
    return [found for found in everything(part) if isinstance(found, dict) and found.get("Effect") == effect]


def rights(template: Template, role: str) -> list[dict[str, Any]]:
    """Return every right of a role."""
    policies = [properties(template, role)["Policies"]]
    managed = properties(template, role).get("ManagedPolicyArns", [])
    policies += [properties(template, policy["Ref"]) for policy in managed]
    policies += [
        policy for policy in of_type(template, "IAM::Policy").values() if {"Ref": role} in policy["Roles"]
    ]
    return statements(policies, "Allow")


def names_in(part: object) -> set[str]:
    """Return every resource and parameter that a part refers to."""
    names = set()
    for found in everything(part):
        match found:
            case {"Ref": str(name)}:
                names.add(name)
            case {"Fn::GetAtt": [str(name), *_]}:
                names.add(name)
            case {"Fn::Sub": str(text)}:
                names |= {name.partition(".")[0] for name in re.findall(r"\$\{([\w.:]+)\}", text)}
    return names


def comes_after(template: Template, later: str, earlier: str) -> bool:
    """Return whether CloudFormation creates a resource after another."""
    resource = template["Resources"].get(later)
    if resource is None:
        return False
    needed = names_in(resource["Properties"]) | set(listed(resource.get("DependsOn", [])))
    return earlier in needed or any(comes_after(template, name, earlier) for name in needed)


def dashboard(template: Template) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the dashboard of a stack with every resource, and what it has only if they exist."""
    text, parts = properties(template, "Dashboard")["DashboardBody"]["Fn::Sub"]
    for name, part in parts.items():
        with_them = part["Fn::If"][1]
        text = text.replace(f"${{{name}}}", with_them["Fn::Sub"])
    body: dict[str, Any] = json.loads(text)
    return body, parts


def metrics_of_our_own(template: Template) -> set[tuple[str, str]]:
    """Return Rollcall's metrics on alarms and dashboard, each with its service."""
    alarms = of_type(template, "CloudWatch::Alarm").values()
    shown = {
        (alarm["MetricName"], only(names_in(alarm["Dimensions"])))
        for alarm in alarms
        if alarm["Namespace"] == "Rollcall"
    }
    body, _ = dashboard(template)
    for widget in body["widgets"]:
        rows = widget["properties"].get("metrics", [])
        if rows and rows[0][0] == "Rollcall":
            [service] = re.findall(r"^\${(.*)}$", rows[0][3])
            shown |= {(row[1], service) for row in rows if row[0] != "..."}
    return shown


# Properties of the template -----------------------------------------------------------------------


def one_source_of_events(template: Template) -> None:
    """Each queue is its function's only source: with two, two functions would import the same upload at once."""
    sources = of_type(template, "Lambda::EventSourceMapping")
    assert len(sources) == len(QUEUES)
    for queue, (_, function, _, _) in QUEUES.items():
        source = sources[f"{function}Uploads"]
        assert source["EventSourceArn"] == {"Fn::GetAtt": [queue, "Arn"]}
        assert source["FunctionName"] == {"Ref": function}


def only_failed_messages_are_delivered_again(template: Template) -> None:
    """The other messages of the batch are deleted."""
    for source in of_type(template, "Lambda::EventSourceMapping").values():
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def reserved_functions_equal_the_polling_limit(template: Template) -> None:
    """Reserved concurrency equals the polling limit; otherwise throttling would use up the messages' tries."""
    for _, function, at_once, _ in QUEUES.values():
        most = {"Ref": at_once}
        assert properties(template, f"{function}Uploads")["ScalingConfig"] == {"MaximumConcurrency": most}
        reserved = properties(template, function)["ReservedConcurrentExecutions"]
        assert reserved == {"Fn::If": ["Reserves", most, {"Ref": "AWS::NoValue"}]}


def no_function_takes_longer_than_lambda_lets_it(template: Template) -> None:
    """15 minutes. An HTTP API waits for 30 seconds, and Amazon Cognito for 5."""
    for name in FUNCTIONS:
        assert 0 < properties(template, name)["Timeout"] <= 900
    for integration in of_type(template, "ApiGatewayV2::Integration").values():
        function = only(names_in(integration["IntegrationUri"]))
        assert properties(template, function)["Timeout"] * 1000 < integration["TimeoutInMillis"] <= 30_000
    assert properties(template, "TokenFunction")["Timeout"] <= 5


def messages_stay_hidden_for_six_timeouts(template: Template) -> None:
    """AWS Lambda's developer guide requires it, so that a message in work is not delivered again."""
    for queue, (_, function, _, _) in QUEUES.items():
        timeout = properties(template, function)["Timeout"]
        assert properties(template, queue)["VisibilityTimeout"] >= 6 * timeout


def the_last_try_and_then_the_dead_letter_queue(template: Template) -> None:
    """Three retries come within minutes, and others follow. The dead-letter queue keeps messages for long."""
    assert template["Parameters"]["Tries"]["MinValue"] >= 5
    for queue, (_, _, _, dead) in QUEUES.items():
        assert properties(template, queue)["RedrivePolicy"] == {
            "deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]},
            # In its last try, the import refuses an upload that takes too long.
            "maxReceiveCount": {"Ref": "Tries"},
        }
        assert properties(template, dead)["MessageRetentionPeriod"] == FORTNIGHT
        assert "RedrivePolicy" not in properties(template, dead)


def only_our_queue_uses_the_dead_letter_queue(template: Template) -> None:
    """Its name is built from parameters, because each queue would have to wait for the other."""
    for queue, (_, _, _, dead) in QUEUES.items():
        allowed = properties(template, dead)["RedriveAllowPolicy"]
        name = properties(template, queue)["QueueName"]["Fn::Sub"]
        assert allowed["redrivePermission"] == "byQueue"
        assert allowed["sourceQueueArns"] == [
            {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:" + name}
        ]


def only_our_bucket_notifies_the_queue(template: Template) -> None:
    """The policy names this account, because anybody may take the name of a deleted bucket."""
    for queue, (bucket, _, _, _) in QUEUES.items():
        allowed = only(statements(properties(template, f"{queue}Policy"), "Allow"))
        name = properties(template, bucket)["BucketName"]["Fn::Sub"]
        assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
        assert allowed["Action"] == "sqs:SendMessage"
        assert allowed["Condition"] == {
            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
            "ArnEquals": {"aws:SourceArn": {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{name}"}},
        }
        assert template["Resources"][bucket]["DependsOn"] == f"{queue}Policy"


def each_new_upload_notifies_the_queue(template: Template) -> None:
    """One notification for each object, to the queue only."""
    for queue, (bucket, _, _, _) in QUEUES.items():
        assert properties(template, bucket)["NotificationConfiguration"] == {
            "QueueConfigurations": [{"Event": "s3:ObjectCreated:*", "Queue": {"Fn::GetAtt": [queue, "Arn"]}}]
        }


def no_report_is_taken_for_an_upload(template: Template) -> None:
    """Reports have their own bucket, which notifies no queue. Only the Web API writes to the uploads bucket."""
    assert properties(template, "ReportsBucket")["NotificationConfiguration"].keys() == {"LambdaConfigurations"}
    names = [properties(template, bucket)["BucketName"]["Fn::Sub"] for bucket in BUCKETS]
    assert len(set(names)) == len(BUCKETS)
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        assert variables["ROLLCALL_UPLOADS"]["Fn::Sub"] == f"s3://{names[0]}"
        assert variables["ROLLCALL_REPORTS"]["Fn::Sub"] == f"s3://{names[1]}"
    for role in of_type(template, "IAM::Role"):
        written = {"InboxBucket", "UploadsBucket"} if role == "ApiRole" else {"ReportsBucket"}
        for allowed in rights(template, role):
            if any(re.match("s3:(Put|Delete|Restore|Replicate)", action) for action in listed(allowed["Action"])):
                assert names_in(allowed["Resource"]) == written


def each_new_receipt_invokes_the_notify_function(template: Template) -> None:
    """The bucket needs the right to invoke, and the function's role does not need the bucket: no circle."""
    notified = only(properties(template, "ReportsBucket")["NotificationConfiguration"]["LambdaConfigurations"])
    assert notified == {
        "Event": "s3:ObjectCreated:*",
        "Function": {"Fn::GetAtt": ["NotifyFunction", "Arn"]},
        "Filter": {"S3Key": {"Rules": [{"Name": "suffix", "Value": f"/{RECEIPT_NAME}"}]}},
    }
    name = properties(template, "ReportsBucket")["BucketName"]["Fn::Sub"]
    assert template["Resources"]["ReportsBucket"]["DependsOn"] == "ReportsMayNotify"
    assert properties(template, "ReportsMayNotify") == {
        "FunctionName": {"Ref": "NotifyFunction"},
        "Action": "lambda:InvokeFunction",
        "Principal": "s3.amazonaws.com",
        "SourceAccount": {"Ref": "AWS::AccountId"},
        "SourceArn": {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{name}"},
    }
    assert not comes_after(template, "NotifyFunction", "ReportsBucket")
    assert not comes_after(template, "ReportsMayNotify", "ReportsBucket")


def an_outcome_that_cannot_be_published_is_kept(template: Template) -> None:
    """In a queue that nothing consumes, as long as SQS allows."""
    kept = {"TargetArn": {"Fn::GetAtt": ["NotifyDeadLetterQueue", "Arn"]}}
    assert properties(template, "NotifyFunction")["DeadLetterConfig"] == kept
    queue = properties(template, "NotifyDeadLetterQueue")
    assert queue["MessageRetentionPeriod"] == FORTNIGHT
    assert queue["RedriveAllowPolicy"] == {"redrivePermission": "denyAll"}
    # The dead-letter queue of the uploads is for redrive, so no function takes its messages.
    for source in of_type(template, "Lambda::EventSourceMapping").values():
        assert only(names_in(source["EventSourceArn"])) in QUEUES


def people_subscribe_to_outcomes(template: Template) -> None:
    """By the parameter, to those statuses; the topic itself gets every status."""
    topic = {"Ref": "OutcomeTopic"}
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        assert variables["ROLLCALL_NOTIFY_TOPIC"] == topic
    assert properties(template, "OutcomeTopic")["KmsMasterKeyId"] == "alias/aws/sns"
    assert properties(template, "OutcomeSubscription") == {
        "TopicArn": topic,
        "Protocol": "email",
        "Endpoint": {"Ref": "NotifyEmail"},
        "FilterPolicyScope": "MessageAttributes",
        "FilterPolicy": {"status": {"Ref": "NotifyStatuses"}},
    }
    assert "OutcomeSubscription" not in deployed(template, {})
    assert "OutcomeSubscription" in deployed(template, {"NotifyEmail": "a@example.com"})
    statuses = template["Parameters"]["NotifyStatuses"]
    assert statuses["AllowedValues"] == [*STATUSES]
    silent = {Status.LOADED.value, Status.SKIPPED.value}
    assert set(statuses["Default"].split(",")) == {*STATUSES} - silent
    assert GIVEN_UP in statuses["Default"]


def buckets_are_kept(template: Template) -> None:
    """Old versions are kept for a time, and the buckets even after the stack is deleted."""
    for name in KEPT_BUCKETS:
        bucket = template["Resources"][name]
        assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
        assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
        rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
        assert all(rule["Status"] == "Enabled" and "ExpirationInDays" not in rule for rule in rules)
        told = {key: value for rule in rules for key, value in rule.items()}
        assert names_in(told["AbortIncompleteMultipartUpload"]) == {"KeepUnfinishedUploadsDays"}
        assert names_in(told["NoncurrentVersionExpiration"]) == {"KeepOldVersionsDays"}
    # An overwritten upload must be kept longer than its message may take.
    assert template["Parameters"]["KeepOldVersionsDays"]["MinValue"] * 24 * 3600 > 2 * FORTNIGHT


def buckets_are_private(template: Template) -> None:
    """S3 blocks public access in every way, and no other account owns an object."""
    for name in BUCKETS:
        bucket = properties(template, name)
        assert bucket["PublicAccessBlockConfiguration"] == {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        }
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


def storage_is_encrypted(template: Template) -> None:
    """Objects and messages."""
    for name in BUCKETS:
        rule = only(properties(template, name)["BucketEncryption"]["ServerSideEncryptionConfiguration"])
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in {"AES256", "aws:kms"}
    for name in ALL_QUEUES:
        assert properties(template, name)["SqsManagedSseEnabled"] is True


def only_encrypted_connections(template: Template) -> None:
    """Buckets, objects, queues and topic refuse other connections to everybody."""
    guarded = {
        "UploadsBucketPolicy": ("UploadsBucket", "s3:*"),
        "ReportsBucketPolicy": ("ReportsBucket", "s3:*"),
        "QueuePolicy": ("Queue", "sqs:*"),
        "DeadLetterQueuePolicy": ("DeadLetterQueue", "sqs:*"),
        "InboxBucketPolicy": ("InboxBucket", "s3:*"),
        "InboxQueuePolicy": ("InboxQueue", "sqs:*"),
        "InboxDeadLetterQueuePolicy": ("InboxDeadLetterQueue", "sqs:*"),
        "NotifyDeadLetterQueuePolicy": ("NotifyDeadLetterQueue", "sqs:*"),
        "OutcomeTopicPolicy": ("OutcomeTopic", "sns:Publish"),
        "AlarmTopicPolicy": ("AlarmTopic", "sns:Publish"),
    }
    for policy, (resource, action) in guarded.items():
        document = properties(template, policy)
        denied = only(denied for denied in statements(document, "Deny") if "Bool" in denied["Condition"])
        assert denied["Principal"] == "*"
        assert denied["Action"] == action
        assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert names_in(denied["Resource"]) == {resource}
        assert len(listed(denied["Resource"])) == (2 if action == "s3:*" else 1)
        guards = document.get("Bucket") or only(document.get("Queues") or document["Topics"])
        assert guards == {"Ref": resource}


def buckets_are_of_this_account(template: Template) -> None:
    """A bucket's ARN names no account, and anybody may take the name of a deleted bucket."""
    on_buckets = [
        allowed
        for role in of_type(template, "IAM::Role")
        for allowed in rights(template, role)
        if any(action.startswith("s3:") for action in listed(allowed["Action"]))
    ]
    assert on_buckets
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        assert variables["ROLLCALL_BUCKET_OWNER"] == {"Ref": "AWS::AccountId"}
    for allowed in on_buckets:
        assert allowed["Condition"] == {"StringEquals": {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}}


def uploads_can_be_read(template: Template) -> None:
    """S3 returns an archived object, or one with a customer's key, only after another request by its owner."""
    denied = [
        statement
        for statement in statements(properties(template, "UploadsBucketPolicy"), "Deny")
        if statement["Action"] == "s3:PutObject"
    ]
    for statement in denied:
        assert statement["Principal"] == "*"
        assert statement["Resource"] == {"Fn::Sub": "${UploadsBucket.Arn}/*"}
    assert [statement["Condition"] for statement in denied] == [
        {"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}},
        {"StringEquals": {"s3:x-amz-storage-class": ["GLACIER", "DEEP_ARCHIVE"]}},
    ]


def nothing_is_allowed_to_everybody(template: Template) -> None:
    """Policies allow only AWS services, and only on behalf of this account."""
    for allowed in statements(template["Resources"], "Allow"):
        if "Principal" in allowed:
            assert allowed["Principal"].keys() == {"Service"}
            lambda_itself = allowed["Principal"]["Service"] == "lambda.amazonaws.com"
            assert lambda_itself or "aws:SourceAccount" in allowed["Condition"]["StringEquals"]


def every_right_is_named(template: Template) -> None:
    """No wildcard in actions; `*` as resource only for actions that take no resource."""
    for allowed in statements(template["Resources"], "Allow"):
        assert not {"NotAction", "NotResource", "NotPrincipal"} & allowed.keys()
        actions = set(listed(allowed["Action"]))
        assert not any("*" in action for action in actions)
        for target in listed(allowed.get("Resource", [])):
            text = target if isinstance(target, str) else target.get("Fn::Sub", "")
            # In a bucket, all objects, all below a folder or all receipts; otherwise the resource itself.
            named = re.sub(r"Bucket\.Arn\}/((web|checks)/)?\*(/receipt\.json)?$", "", text)
            assert "*" not in named or (text == "*" and actions <= NAMELESS)


def roles_are_ours(template: Template) -> None:
    """Each function has its own role, without managed policies of AWS, which allow writing any log."""
    roles = [properties(template, name)["Role"]["Fn::GetAtt"][0] for name in FUNCTIONS]
    assert len(set(roles)) == len(FUNCTIONS)
    for role in of_type(template, "IAM::Role").values():
        assert role.get("ManagedPolicyArns", []) in ([], [{"Ref": "DatabasePolicy"}])


def each_role_has_exactly_its_rights(template: Template) -> None:
    """Each role has exactly these rights."""
    allowed = {
        role: {
            (action, *sorted(names_in(statement["Resource"])))
            for statement in rights(template, role)
            for action in listed(statement["Action"])
            if action not in NAMELESS
        }
        for role in of_type(template, "IAM::Role")
    }
    database = {
        ("secretsmanager:GetSecretValue", "DatabaseSecretArn"),
        ("kms:Decrypt", "DatabaseSecretKeyArn"),
        ("rds-db:connect", "DatabaseUserArn"),
    }
    publishing = {
        ("sns:Publish", "OutcomeTopic"),
        ("events:PutEvents", "AWS::AccountId", "AWS::Partition", "AWS::Region"),
    }
    assert allowed["ImportRole"] == database | publishing | {
        ("s3:GetObject", "UploadsBucket"),
        ("s3:GetObjectVersion", "UploadsBucket"),
        ("s3:GetObject", "ReportsBucket"),
        ("s3:PutObject", "ReportsBucket"),
        ("s3:AbortMultipartUpload", "ReportsBucket"),
        # Without these rights, S3 answers 403 and not 404 for a missing object.
        ("s3:ListBucket", "ReportsBucket", "UploadsBucket"),
        ("s3:ListBucketVersions", "ReportsBucket", "UploadsBucket"),
        *((f"sqs:{action}", "Queue") for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")),
        *((f"sqs:{action}", "Queue") for action in ("GetQueueAttributes", "GetQueueUrl", "SendMessage")),
        ("logs:CreateLogStream", "ImportLogs"),
        ("logs:PutLogEvents", "ImportLogs"),
    }
    assert allowed["SweepRole"] == database | publishing | {
        ("s3:ListBucketVersions", "UploadsBucket"),
        ("s3:GetObject", "ReportsBucket"),
        ("s3:PutObject", "ReportsBucket"),
        ("s3:ListBucket", "ReportsBucket"),
        *((f"sqs:{action}", "Queue") for action in ("GetQueueAttributes", "GetQueueUrl", "SendMessage")),
        ("logs:CreateLogStream", "SweepLogs"),
        ("logs:PutLogEvents", "SweepLogs"),
    }
    # Neither uploads nor database.
    assert allowed["NotifyRole"] == publishing | {
        ("s3:GetObject", "ReportsBucket"),
        ("s3:GetObjectVersion", "ReportsBucket"),
        ("s3:ListBucket", "ReportsBucket"),
        ("s3:ListBucketVersions", "ReportsBucket"),
        ("sqs:SendMessage", "NotifyDeadLetterQueue"),
        ("logs:CreateLogStream", "NotifyLogs"),
        ("logs:PutLogEvents", "NotifyLogs"),
    }
    assert allowed["MigrateRole"] == database | {
        ("logs:CreateLogStream", "MigrateLogs"),
        ("logs:PutLogEvents", "MigrateLogs"),
        ("secretsmanager:GetSecretValue", "OwnerSecretArn"),
    }
    # No queue, and so no dead letter.
    assert allowed["ApiRole"] == database | {
        ("s3:PutObject", "InboxBucket", "UploadsBucket"),
        ("s3:GetObject", "InboxBucket"),
        ("s3:GetObjectVersion", "InboxBucket"),
        ("s3:GetObject", "UploadsBucket"),
        ("s3:GetObject", "ReportsBucket"),
        ("s3:ListBucket", "InboxBucket", "ReportsBucket", "UploadsBucket"),
        ("s3:ListBucketVersions", "InboxBucket", "ReportsBucket", "UploadsBucket"),
        ("logs:CreateLogStream", "ApiLogs"),
        ("logs:PutLogEvents", "ApiLogs"),
    }
    assert allowed["UndoRole"] == {
        ("secretsmanager:GetSecretValue", "OperatorSecretArn"),
        ("kms:Decrypt", "DatabaseSecretKeyArn"),
        ("rds-db:connect", "OperatorUserArn"),
        ("logs:CreateLogStream", "UndoLogs"),
        ("logs:PutLogEvents", "UndoLogs"),
    }
    # Neither uploads nor database.
    assert allowed["CheckRole"] == {
        ("s3:GetObject", "InboxBucket"),
        ("s3:GetObjectVersion", "InboxBucket"),
        ("s3:GetObject", "ReportsBucket"),
        ("s3:PutObject", "ReportsBucket"),
        ("s3:AbortMultipartUpload", "ReportsBucket"),
        ("s3:ListBucket", "InboxBucket", "ReportsBucket"),
        ("s3:ListBucketVersions", "InboxBucket", "ReportsBucket"),
        *((f"sqs:{action}", "InboxQueue") for action in ("ReceiveMessage", "DeleteMessage")),
        *((f"sqs:{action}", "InboxQueue") for action in ("ChangeMessageVisibility", "GetQueueAttributes")),
        ("logs:CreateLogStream", "CheckLogs"),
        ("logs:PutLogEvents", "CheckLogs"),
    }
    assert allowed["TokenRole"] == {("logs:CreateLogStream", "TokenLogs"), ("logs:PutLogEvents", "TokenLogs")}


def events_are_put_only_as_rollcall(template: Template) -> None:
    """On the default event bus, where another source could be taken for another program."""
    for role in "ImportRole", "SweepRole", "NotifyRole":
        put = only(allowed for allowed in rights(template, role) if allowed["Action"] == "events:PutEvents")
        bus = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default"
        assert put["Resource"] == {"Fn::Sub": bus}
        assert put["Condition"] == {"StringEquals": {"events:source": SOURCE}}


def only_lambda_itself_makes_network_interfaces(template: Template) -> None:
    """Requests of the function's code name the function; AWS Lambda's own requests with its role do not."""
    for role in of_type(template, "IAM::Role"):
        on_networks = [
            allowed
            for allowed in rights(template, role)
            if any(action.startswith("ec2:") for action in listed(allowed["Action"]))
        ]
        if role in {"CheckRole", "TokenRole", "NotifyRole"}:
            assert not on_networks
            assert properties(template, role.replace("Role", "Function"))["VpcConfig"] == {"Ref": "AWS::NoValue"}
        else:
            assert only(on_networks)["Condition"] == {"Null": {"lambda:SourceFunctionArn": "true"}}


def the_import_reads_no_rejected_rows(template: Template) -> None:
    """It may read only receipts, as may the function that publishes outcomes."""
    for role, action in (
        ("ImportRole", "s3:GetObject"),
        ("NotifyRole", "s3:GetObject"),
        ("NotifyRole", "s3:GetObjectVersion"),
    ):
        assert objects_in_reports(template, role, action) == [{"Fn::Sub": "${ReportsBucket.Arn}/*/receipt.json"}]
    assert objects_in_reports(template, "ImportRole", "s3:PutObject") == [{"Fn::Sub": "${ReportsBucket.Arn}/*"}]


def objects_in_reports(template: Template, role: str, action: str) -> list[Any]:
    """Return the objects in the reports bucket that a role may use with an action."""
    return [
        resource
        for allowed in rights(template, role)
        if action in listed(allowed["Action"])
        for resource in listed(allowed["Resource"])
        if names_in(resource) == {"ReportsBucket"}
    ]


def the_sweep_writes_one_object(template: Template) -> None:
    """It writes only the place at which the next sweep continues."""
    for action in ("s3:GetObject", "s3:PutObject"):
        objects = objects_in_reports(template, "SweepRole", action)
        assert objects == [{"Fn::Sub": "${ReportsBucket.Arn}/sweep/position.json"}]


def no_two_sweeps_at_once(template: Template) -> None:
    """A failed sweep is not repeated, because the schedule starts the next one."""
    sweep = properties(template, "SweepFunction")
    assert sweep["ReservedConcurrentExecutions"] == {"Fn::If": ["Reserves", 1, {"Ref": "AWS::NoValue"}]}
    invoked = only(of_type(template, "Lambda::EventInvokeConfig").values())
    assert invoked["FunctionName"] == {"Ref": "SweepFunction"}
    assert invoked["MaximumRetryAttempts"] == 0
    schedule = only(of_type(template, "Events::Rule").values())
    assert schedule["ScheduleExpression"] == {"Ref": "SweepSchedule"}
    assert [target["Arn"] for target in schedule["Targets"]] == [{"Fn::GetAtt": ["SweepFunction", "Arn"]}]


def the_migration_runs_first(template: Template) -> None:
    """A deployment that changes code, database or `unique_by` migrates before anything else."""
    migration = template["Resources"]["MigrateAtThisDeployment"]
    assert migration["Condition"] == "Migrates"
    version = only(of_type(template, "Lambda::Version"))
    changing = {
        "MigrateFunction",
        version,
        "Record",
        "UniqueBy",
        "DatabaseUrl",
        "DatabaseSecretArn",
        "OwnerSecretArn",
        "OwnerPolicy",
    }
    assert names_in(migration["Properties"]) == changing
    assert migration["Properties"]["ServiceTimeout"] > properties(template, "MigrateFunction")["Timeout"]
    assert comes_after(template, "ImportFunction", "MigrateAtThisDeployment")
    assert comes_after(template, "SweepFunction", "MigrateAtThisDeployment")
    assert comes_after(template, "ApiFunction", "MigrateAtThisDeployment")
    assert comes_after(template, "UndoFunction", "MigrateAtThisDeployment")


def one_package_for_all_functions(template: Template) -> None:
    """It is built for their runtime and architecture."""
    for name, its_module in FUNCTIONS.items():
        function = template["Resources"][name]
        assert function["Metadata"] == {
            "BuildMethod": "makefile",
            "ContextPath": {"Fn::Sub": "deploy/package/${Runtime}-${Architecture}"},
            "WorkingDirectory": ".",
        }
        assert function["Properties"]["Runtime"] == {"Ref": "Runtime"}
        assert function["Properties"]["Architectures"] == [{"Ref": "Architecture"}]
        module, _, attribute = function["Properties"]["Handler"].rpartition(".")
        assert module == f"rollcall.entrypoints.{its_module}"
        assert attribute == "handler"
    made = {path.parent.name for path in (ROOT / "deploy/package").glob("*/Makefile")}
    parameters = template["Parameters"]
    runtimes, architectures = (parameters[name]["AllowedValues"] for name in ("Runtime", "Architecture"))
    # Machines that have no newer Python test the package with theirs.
    assert made == {f"{one}-{other}" for one in runtimes for other in architectures} | {"python3.11-x86_64"}
    assert parameters["Runtime"]["Default"] == "python3.13"
    assert parameters["Architecture"]["Default"] == "arm64"


def logs_are_kept_for_a_time(template: Template) -> None:
    """Each function has a log group with a retention time."""
    for name in FUNCTIONS:
        logs = properties(template, name)["LoggingConfig"]["LogGroup"]["Ref"]
        assert logs == name.replace("Function", "Logs")
        assert properties(template, logs)["RetentionInDays"] == {"Ref": "KeepLogsDays"}


def alarms_notify_the_topic(template: Template) -> None:
    """They notify the topic, and stay silent without data."""
    alarms = of_type(template, "CloudWatch::Alarm")
    topic = [{"Ref": "AlarmTopic"}]
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == topic
        assert alarm["OKActions"] == topic
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    watched = set()
    for alarm in alarms.values():
        dimension = only(alarm["Dimensions"])
        whose = only(names_in(dimension) or [dimension["Value"]])
        watched.add((alarm["MetricName"], whose))
    assert watched == {
        ("ApproximateNumberOfMessagesVisible", "DeadLetterQueue"),
        ("ApproximateAgeOfOldestMessage", "Queue"),
        # A failure of the functions behind the HTTP API is a status of 500 or more.
        *(("Errors", function) for function in FUNCTIONS if function not in {"ApiFunction", "UndoFunction"}),
        ("5xx", "HttpApi"),
        ("ApproximateNumberOfMessagesVisible", "InboxDeadLetterQueue"),
        ("ApproximateNumberOfMessagesVisible", "NotifyDeadLetterQueue"),
        ("Throttles", "ImportFunction"),
        ("ImportsFailed", "AWS::StackName"),
        ("ImportsPutOff", "AWS::StackName"),
        ("ImportsRefused", "AWS::StackName"),
        ("UploadsGivenUp", "AWS::StackName"),
    }
    allowed = only(statements(properties(template, "AlarmTopicPolicy"), "Allow"))
    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}


def every_watched_metric_is_emitted(template: Template) -> None:
    """A metric that nothing emits raises no alarm; a metric of all stacks raises one for another stack."""
    code = (ROOT / "src/rollcall/entrypoints/import_lambda.py").read_text(encoding="utf-8")
    imports = set(re.findall(r'(?:_count\(|name=)"(\w+)"', code))
    imports |= {"Imports" + status.value.title().replace("_", "") for status in Status}
    sweep = {"UploadsSeen", "UploadsQueued", "UploadsGivenUp"}
    assert metrics_of_our_own(template) == {(name, "AWS::StackName") for name in imports | sweep}
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def the_dashboard_shows_every_alarm(template: Template) -> None:
    """In one row, at the top."""
    body, parts = dashboard(template)
    shown = only([widget["properties"]["alarms"] for widget in body["widgets"] if widget["type"] == "alarm"])
    assert sorted(shown) == sorted(f"${{{name}.Arn}}" for name in of_type(template, "CloudWatch::Alarm"))
    # What does not exist cannot be shown.
    for part in parts.values():
        condition, with_them, without_them = part["Fn::If"]
        assert without_them == ""
        assert {template["Resources"][name]["Condition"] for name in names_in(with_them)} == {condition}


def every_setting_is_a_parameter(template: Template) -> None:
    """Each parameter has the setting's default, and each function receives it."""
    known = {field.name: field for field in attrs.fields(Settings) if field.name not in ABSENT}
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        ours = {name for name in variables if name.startswith(PREFIX)}
        page = OF_THE_PAGE if function == "ApiFunction" else set()
        assert ours == {PREFIX + name.upper() for name in known} | page
    for name, field in known.items():
        if name in GIVEN:
            continue
        parameter = name.title().replace("_", "")
        variables = properties(template, "ImportFunction")["Environment"]["Variables"]
        assert variables[PREFIX + name.upper()] == {"Ref": parameter}
        declared = template["Parameters"][parameter]
        assert str(declared["Default"]) == OTHER_DEFAULTS.get(name, field.default or "")


def the_page_asks_every_host_of_a_sign_in(template: Template) -> None:
    """That of the issuer, and those where it exchanges a code for a token."""

    def asked(parameters: dict[str, str]) -> Any:  # noqa: ANN401 - a template may contain any YAML
        variables = deployed(template, parameters)["ApiFunction"]["Properties"]["Environment"]["Variables"]
        return variables["ROLLCALL_PAGE_HOSTS"]["Fn::Sub"][1]["OfTheIssuer"]["Fn::Sub"]

    assert asked(JWT)[0] == "https://${Host} ${SignInHosts}"
    assert asked(POOL).split() == [
        "https://cognito-idp.${AWS::Region}.${AWS::URLSuffix}",
        "https://${SignInDomain}.auth.${AWS::Region}.amazoncognito.com",
    ]
    takes = re.compile(template["Parameters"]["SignInHosts"]["AllowedPattern"]).fullmatch
    assert takes("")
    assert takes("https://a.auth.eu-west-1.amazoncognito.com https://oauth2.googleapis.com")
    assert not any(
        map(takes, ["https://a/oauth2", "https://*", "https://a;script-src", "http://a", "https://a  "])
    )


def only_the_migration_connects_as_the_owner(template: Template) -> None:
    """Only the migration has the secret of the tables' owner, because an owner can drop tables."""
    for function in FUNCTIONS:
        secret = properties(template, function)["Environment"]["Variables"]["ROLLCALL_DATABASE_SECRET_ARN"]
        assert ("OwnerSecretArn" in names_in(secret)) == (function == "MigrateFunction")


def only_the_undo_connects_as_the_operator(template: Template) -> None:
    """Only the operator's role may delete users. Checks and tokens do not even know where the database is."""
    for parameters, url, secret in (JWT, "DatabaseUrl", "OperatorSecretArn"), (SIGNED, "OperatorUrl", ""):
        resources = deployed(template, parameters)
        for function in FUNCTIONS.keys() & resources.keys():
            variables = resources[function]["Properties"]["Environment"]["Variables"]
            connects = names_in([variables[f"ROLLCALL_DATABASE_{part}"] for part in ("URL", "SECRET_ARN")])
            if function == "UndoFunction":
                assert connects == {url, secret or "OperatorSecretArn"}
            elif function in {"CheckFunction", "TokenFunction", "NotifyFunction"}:
                assert not connects
            else:
                assert not connects & {"OperatorUrl", "OperatorSecretArn"}


def settings_of_the_template_are_valid(template: Template) -> None:
    """Rollcall starts with these settings."""
    stack = {"AWS::AccountId": "111122223333", "AWS::Region": "eu-central-1", "BucketPrefix": "rollcall"}
    given: dict[str, str] = {}
    for name, value in properties(template, "ImportFunction")["Environment"]["Variables"].items():
        match value:
            case {"Ref": "AWS::StackName"}:
                given[name] = "rollcall"
            case {"Ref": "AWS::AccountId"}:
                given[name] = stack["AWS::AccountId"]
            case {"Ref": "OutcomeTopic"}:
                given[name] = "arn:aws:sns:eu-central-1:111122223333:rollcall-OutcomeTopic-1"
            case {"Ref": parameter}:
                given[name] = str(template["Parameters"][parameter]["Default"])
            case {"Fn::Sub": text} | {"Fn::If": ["HasApi", {"Fn::Sub": text}, ""]}:
                given[name] = re.sub(r"\$\{([\w:]+)\}", lambda found: stack[found[1]], text)
            case {"Fn::GetAtt": ["Queue", "Arn"]}:
                given[name] = "arn:aws:sqs:eu-central-1:111122223333:rollcall-uploads"
    settings = read_settings(given)
    assert settings.uploads
    assert settings.uploads.place == "rollcall-uploads-111122223333-eu-central-1"
    assert settings.inbox
    assert settings.inbox.place == "rollcall-inbox-111122223333-eu-central-1"
    assert settings.max_upload_bytes < settings.max_csv_bytes


def choices_equal_those_of_rollcall(template: Template) -> None:
    """CloudFormation must accept exactly the values that Rollcall accepts."""
    for name, choices in CHOICES.items():
        assert template["Parameters"][name]["AllowedValues"] == [choice.value for choice in choices]


def every_parameter_is_described(template: Template) -> None:
    """Each parameter has a description and belongs to a group of the console's form."""
    parameters = template["Parameters"]
    assert all(parameter["Description"].endswith(".") for parameter in parameters.values())
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(parameters)


def no_password_is_a_parameter(template: Template) -> None:
    """Everybody who may see the stack sees its parameters."""
    takes = re.compile(template["Parameters"]["DatabaseUrl"]["AllowedPattern"]).fullmatch
    given = ("", "postgresql://rollcall@host:5432/app?application_name=x", "postgres://host/app")
    assert all(map(takes, given))
    assert not takes("memory:")
    assert not takes("postgresql://u:S3CRET@host/app")
    for secret in ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "pass%77ord"):
        assert not takes(f"postgresql://h/d?{secret}=S3CRET")


def no_weaker_tls_is_a_parameter(template: Template) -> None:
    """The database URL could override `verify-full`, the functions' default, in every spelling of libpq."""
    takes = re.compile(template["Parameters"]["DatabaseUrl"]["AllowedPattern"]).fullmatch
    for parameters in ("sslmode=verify-full", "sslmode=verify-full&sslrootcert=/opt/ca.pem", "connect_timeout=5"):
        assert takes(f"postgresql://u@one:5432,two/d?{parameters}")
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "", "verify-full2")
    weaker = [f"sslmode={mode}" for mode in modes]
    weaker += ["ssl=true", "requiressl=1", "sslm%6Fde=disable", "sslmode=verify-full&sslmode=disable"]
    for parameters in weaker:
        assert not takes(f"postgresql://u@host/d?{parameters}")
        assert not takes(f"postgresql://u@host/d?connect_timeout=5&{parameters}")
        assert not takes(f"postgresql://u@[a?b=c],host/d?{parameters}")


# The Web API ---------------------------------------------------------------------------------------


def routes_of(template: Template, parameters: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return every route of a deployment, by its key."""
    routes = of_type({"Resources": deployed(template, parameters)}, "ApiGatewayV2::Route").values()
    assert len({route["RouteKey"] for route in routes}) == len(routes)
    return {route["RouteKey"]: route for route in routes}


def every_declared_route_exists(template: Template) -> None:
    """And no other. Only the undo has a function of its own."""
    routes = routes_of(template, JWT)
    declared = {f"{route.method} {route.path}": list(route.scopes) for route in ROUTES}
    assert {key: route.get("AuthorizationScopes", []) for key, route in routes.items()} == declared
    for key, function in functions_of_routes(template).items():
        assert function == ("UndoFunction" if key.endswith("/undo") else "ApiFunction")
    for integration in of_type(template, "ApiGatewayV2::Integration").values():
        assert integration["IntegrationType"] == "AWS_PROXY"
        assert integration["PayloadFormatVersion"] == "2.0"


def every_route_asks_who_calls(template: Template) -> None:
    """Except for the static ones. Without a scope, an ID token would do."""
    static = {f"{route.method} {route.path}" for route in ROUTES if route.scope is None}
    for parameters in JWT, POOL:
        for key, route in routes_of(template, parameters).items():
            if key in static:
                assert route["AuthorizationType"] == "NONE"
            else:
                assert route["AuthorizationType"] == "JWT"
                assert route.get("AuthorizerId") == {"Ref": "Authorizer"}
                scopes = set(route.get("AuthorizationScopes", []))
                assert scopes
                assert scopes <= set(Scope)
    for key, route in routes_of(template, SIGNED).items():
        assert route["AuthorizationType"] == ("NONE" if key in static else "AWS_IAM")
        assert not {"AuthorizerId", "AuthorizationScopes"} & route.keys()


def tokens_are_those_of_the_issuer(template: Template) -> None:
    """With the audience. A pool of our own is the issuer, and its client the audience."""
    for parameters, issuer, audience in (
        (JWT, {"Ref": "JwtIssuer"}, {"Ref": "JwtAudience"}),
        (
            POOL,
            {"Fn::Sub": "https://cognito-idp.${AWS::Region}.${AWS::URLSuffix}/${SignInPool}"},
            {"Ref": "SignInClient"},
        ),
    ):
        authorizer = deployed(template, parameters)["Authorizer"]["Properties"]
        assert authorizer["AuthorizerType"] == "JWT"
        assert authorizer["IdentitySource"] == ["$request.header.Authorization"]
        assert authorizer["JwtConfiguration"] == {"Issuer": issuer, "Audience": [audience]}


def nothing_leads_past_the_routes(template: Template) -> None:
    """No function has a URL, no route takes every request, and the HTTP API has one stage."""
    assert not of_type(template, "Lambda::Url")
    assert not of_type(template, "ApiGateway::RestApi")
    api = only(of_type(template, "ApiGatewayV2::Api").values())
    assert api == {"Name": {"Ref": "AWS::StackName"}, "ProtocolType": "HTTP"}
    for route in of_type(template, "ApiGatewayV2::Route").values():
        assert re.fullmatch(r"(GET|POST|PUT) /(|(api|assets)/[a-z./{}]+)", route["RouteKey"])
        assert "+" not in route["RouteKey"]
    stage = only(of_type(template, "ApiGatewayV2::Stage").values())
    assert stage["StageName"] == "$default"


def only_the_http_api_invokes_its_functions(template: Template) -> None:
    """The function that undoes, for undos only; the function for tokens is Cognito's."""
    asked = [
        (
            only(names_in(allowed["FunctionName"])),
            allowed["Action"],
            allowed["Principal"],
            only(allowed["SourceArn"].values()),
        )
        for allowed in of_type(template, "Lambda::Permission").values()
        if names_in(allowed["FunctionName"]) & set(OF_THE_API)
    ]
    # And the schedule of the sweep, and the bucket of reports.
    assert len(of_type(template, "Lambda::Permission")) == len(asked) + 2
    arn = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${HttpApi}/*/"
    invokes, gateway = "lambda:InvokeFunction", "apigateway.amazonaws.com"
    assert sorted(asked, key=str) == [
        ("ApiFunction", invokes, gateway, f"{arn}*/api/*"),
        ("ApiFunction", invokes, gateway, f"{arn}GET/"),
        ("ApiFunction", invokes, gateway, f"{arn}GET/assets/*"),
        ("TokenFunction", invokes, "cognito-idp.amazonaws.com", ["SignInPool", "Arn"]),
        ("UndoFunction", invokes, gateway, f"{arn}POST/api/imports/*/undo"),
    ]


def off_makes_nothing_of_the_api(template: Template) -> None:
    """Which is the default."""
    resources = {"Resources": deployed(template, {})}
    assert not [name for name, part in resources["Resources"].items() if "ApiGateway" in part["Type"]]
    assert not [name for name, part in resources["Resources"].items() if "Cognito" in part["Type"]]
    assert of_type(resources, "Lambda::Function").keys() == FUNCTIONS.keys() - set(OF_THE_API)
    assert of_type(resources, "S3::Bucket").keys() == set(KEPT_BUCKETS)
    assert of_type(resources, "SQS::Queue").keys() == {"Queue", "DeadLetterQueue", "NotifyDeadLetterQueue"}
    assert of_type(resources, "IAM::Role").keys() == {"ImportRole", "SweepRole", "NotifyRole", "MigrateRole"}


def every_resource_refers_to_what_exists(template: Template) -> None:
    """In each kind of deployment."""
    for parameters in {}, JWT, POOL, SIGNED:
        resources = deployed(template, parameters)
        parts = dashboard(template)[1].keys()
        names = {name for name in names_in(resources) if "::" not in name}
        assert names <= resources.keys() | template["Parameters"].keys() | parts
        assert {
            name for part in resources.values() for name in listed(part.get("DependsOn", []))
        } <= resources.keys()


def an_open_api_does_not_deploy(template: Template) -> None:
    """Tokens need an issuer and an audience, or a pool that is both."""
    database = {"DatabaseSecretArn": "arn:importer"}
    for parameters in database, JWT, POOL, SIGNED:
        assert refusals(template, parameters) == []
    for wrong in (
        {**JWT, "JwtIssuer": ""},
        {**JWT, "JwtAudience": ""},
        {**JWT, "JwtIssuer": "", "JwtAudience": ""},
        {**JWT, "UserPool": "create"},
        {**POOL, "JwtIssuer": "https://issuer.example"},
        {**SIGNED, "JwtIssuer": "https://issuer.example"},
        {**SIGNED, "UserPool": "create"},
        {**database, "UserPool": "create"},
    ):
        assert len(refusals(template, wrong)) == 1
    takes = re.compile(template["Parameters"]["JwtIssuer"]["AllowedPattern"]).fullmatch
    assert takes("https://issuer.example/tenant/v2.0")
    assert not takes("http://issuer.example")
    assert template["Parameters"]["ApiAuth"]["AllowedValues"] == ["off", "jwt", "iam"]
    assert template["Parameters"]["ApiAuth"]["Default"] == "off"


def an_api_without_the_operators_role_does_not_deploy(template: Template) -> None:
    """Or the function that answers strangers would have the right to delete users."""
    for wrong in (
        {**JWT, "OperatorSecretArn": ""},
        {**JWT, "OperatorSecretArn": JWT["DatabaseSecretArn"]},
        {**SIGNED, "OperatorUrl": ""},
        {**SIGNED, "OperatorUrl": SIGNED["DatabaseUrl"]},
        {**SIGNED, "OperatorUserArn": ""},
        {**SIGNED, "OperatorUrl": "", "OperatorSecretArn": "arn:operator"},
    ):
        assert len(refusals(template, wrong)) == 1
    pattern = template["Parameters"]["DatabaseUrl"]["AllowedPattern"]
    assert template["Parameters"]["OperatorUrl"]["AllowedPattern"] == pattern


def the_inbox_is_for_a_day(template: Template) -> None:
    """It keeps versions, so that exactly the checked one can be registered, but none for long."""
    bucket = properties(template, "InboxBucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert all(rule["Status"] == "Enabled" and not {"Prefix", "Filter"} & rule.keys() for rule in rules)
    merged = {key: value for rule in rules for key, value in rule.items()}
    assert merged["ExpirationInDays"] == 1
    assert merged["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert merged["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert merged["ExpiredObjectDeleteMarker"] is True


def only_the_page_sends_to_the_inbox(template: Template) -> None:
    """No other bucket answers a page of another origin."""
    rule = only(properties(template, "InboxBucket")["CorsConfiguration"]["CorsRules"])
    assert rule == {
        "AllowedMethods": ["POST"],
        "AllowedOrigins": [{"Fn::Sub": "https://${HttpApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}"}],
    }
    for bucket in KEPT_BUCKETS:
        assert "CorsConfiguration" not in properties(template, bucket)


def only_the_api_names_uploaders(template: Template) -> None:
    """A key below web/ proves whose upload it is. Without the Web API, nobody may write there."""
    role = {"Fn::GetAtt": ["ApiRole", "Arn"]}
    for policy, objects, off in (
        ("InboxBucketPolicy", "${InboxBucket.Arn}/*", None),
        ("UploadsBucketPolicy", "${UploadsBucket.Arn}/web/*", "nobody"),
    ):
        for parameters, writer in (JWT, role), (SIGNED, role), ({}, off):
            if writer is None:
                continue
            document = deployed(template, parameters)[policy]
            denied = only(
                denied for denied in statements(document, "Deny") if "StringNotEquals" in denied["Condition"]
            )
            assert denied["Principal"] == "*"
            assert set(denied["Action"]) == {"s3:PutObject", "s3:ReplicateObject"}
            assert denied["Resource"] == {"Fn::Sub": objects}
            assert denied["Condition"] == {"StringNotEquals": {"aws:PrincipalArn": writer}}


def the_api_reaches_only_its_own_folders(template: Template) -> None:
    """It writes below web/, where each key names an uploader; a check writes below checks/."""
    web = [{"Fn::Sub": f"${{{bucket}.Arn}}/web/*"} for bucket in ("InboxBucket", "UploadsBucket")]
    for role, action, objects in (
        ("ApiRole", "s3:PutObject", web),
        ("ApiRole", "s3:GetObject", [*web, {"Fn::Sub": "${ReportsBucket.Arn}/*"}]),
        ("ApiRole", "s3:GetObjectVersion", web[:1]),
        ("CheckRole", "s3:GetObject", [web[0], {"Fn::Sub": "${ReportsBucket.Arn}/checks/*"}]),
        ("CheckRole", "s3:GetObjectVersion", web[:1]),
        ("CheckRole", "s3:PutObject", [{"Fn::Sub": "${ReportsBucket.Arn}/checks/*"}]),
    ):
        found = [
            place
            for allowed in rights(template, role)
            if action in listed(allowed["Action"])
            for place in listed(allowed["Resource"])
        ]
        assert found == objects


def access_logs_show_no_request(template: Template) -> None:
    """A route's key has names in place of ids."""
    logged = properties(template, "HttpApiStage")["AccessLogSettings"]
    assert logged["DestinationArn"] == {"Fn::GetAtt": ["AccessLogs", "Arn"]}
    assert properties(template, "AccessLogs")["RetentionInDays"] == {"Ref": "KeepLogsDays"}
    assert json.loads(logged["Format"]) == {
        "time": "$context.requestTime",
        "request_id": "$context.requestId",
        "route": "$context.routeKey",
        "status": "$context.status",
        "milliseconds": "$context.responseLatency",
        "bytes": "$context.responseLength",
    }


def requests_are_throttled(template: Template) -> None:
    """At the HTTP API, and by the number of functions that connect to the database."""
    limits = properties(template, "HttpApiStage")["DefaultRouteSettings"]
    most = {"Ref": "ApiRequestsPerSecond"}
    assert limits == {"ThrottlingRateLimit": most, "ThrottlingBurstLimit": most}
    for function, reserved in ("ApiFunction", {"Ref": "ApiRequestsAtOnce"}), ("UndoFunction", 2):
        assert properties(template, function)["ReservedConcurrentExecutions"] == {
            "Fn::If": ["Reserves", reserved, {"Ref": "AWS::NoValue"}]
        }


def only_operators_of_the_pool_operate(template: Template) -> None:
    """Nobody signs up. A client's scopes are everybody's who signs in there, so a function takes one away."""
    pool = properties(template, "SignInPool")
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["UserPoolTier"] != "LITE"  # which invokes no function of this version
    assert pool["LambdaConfig"] == {
        "PreTokenGenerationConfig": {
            "LambdaArn": {"Fn::GetAtt": ["TokenFunction", "Arn"]},
            "LambdaVersion": "V2_0",
        }
    }
    assert properties(template, "Operators")["GroupName"] == OPERATORS
    server = properties(template, "SignInScopes")
    assert {f"{server['Identifier']}/{scope['ScopeName']}" for scope in server["Scopes"]} == set(Scope)
    for name in "SignInPool", "InboxBucket":
        assert "Condition" in template["Resources"][name]


def a_sign_in_returns_to_the_page(template: Template) -> None:
    """By a code, to the Web API's own address; no password passes through a program."""
    client = properties(template, "SignInClient")
    page = {"Fn::Sub": "https://${HttpApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/"}
    assert client["CallbackURLs"] == client["LogoutURLs"] == [page]
    assert client["AllowedOAuthFlows"] == ["code"]
    assert set(client["AllowedOAuthScopes"]) == {"openid", *Scope}
    assert client["GenerateSecret"] is False
    assert client["ExplicitAuthFlows"] == ["ALLOW_REFRESH_TOKEN_AUTH"]
    assert client["PreventUserExistenceErrors"] == "ENABLED"


# Each check with changes that break it: a place in the template, and its new value (or GONE).
GONE = object()
CHECKS: dict[Check, list[tuple[str, object]]] = {
    one_source_of_events: [
        ("Resources/ImportFunctionUploads/Properties/EventSourceArn", {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}),
        ("Resources/Another", {"Type": "AWS::Lambda::EventSourceMapping", "Properties": {}}),
    ],
    only_failed_messages_are_delivered_again: [
        ("Resources/ImportFunctionUploads/Properties/FunctionResponseTypes", []),
    ],
    reserved_functions_equal_the_polling_limit: [
        ("Resources/ImportFunctionUploads/Properties/ScalingConfig/MaximumConcurrency", 100),
        ("Resources/CheckFunction/Properties/ReservedConcurrentExecutions", {"Ref": "ImportsAtOnce"}),
        ("Resources/ImportFunction/Properties/ReservedConcurrentExecutions", 1),
    ],
    no_function_takes_longer_than_lambda_lets_it: [
        ("Resources/ImportFunction/Properties/Timeout", 1200),
        ("Resources/UndoFunction/Properties/Timeout", 30),
        ("Resources/TokenFunction/Properties/Timeout", 6),
    ],
    messages_stay_hidden_for_six_timeouts: [
        ("Resources/Queue/Properties/VisibilityTimeout", 5399),
        ("Resources/InboxQueue/Properties/VisibilityTimeout", 5399),
    ],
    the_last_try_and_then_the_dead_letter_queue: [
        ("Parameters/Tries/MinValue", 3),
        ("Resources/Queue/Properties/RedrivePolicy/maxReceiveCount", 1),
        ("Resources/DeadLetterQueue/Properties/MessageRetentionPeriod", 345600),
        ("Resources/InboxQueue/Properties/RedrivePolicy", {}),
    ],
    only_our_queue_uses_the_dead_letter_queue: [
        ("Resources/DeadLetterQueue/Properties/RedriveAllowPolicy/redrivePermission", "allowAll"),
        ("Resources/Queue/Properties/QueueName", {"Fn::Sub": "another"}),
        ("Resources/InboxDeadLetterQueue/Properties/RedriveAllowPolicy/redrivePermission", "allowAll"),
    ],
    only_our_bucket_notifies_the_queue: [
        ("Resources/QueuePolicy/Properties/PolicyDocument/Statement/0/Condition/StringEquals", {}),
        ("Resources/QueuePolicy/Properties/PolicyDocument/Statement/0/Condition/ArnEquals", {}),
        ("Resources/UploadsBucket/Properties/BucketName", {"Fn::Sub": "another"}),
        ("Resources/UploadsBucket/DependsOn", "Queue"),
        ("Resources/InboxQueuePolicy/Properties/PolicyDocument/Statement/0/Condition/StringEquals", {}),
    ],
    each_new_upload_notifies_the_queue: [
        (
            "Resources/UploadsBucket/Properties/NotificationConfiguration/QueueConfigurations/0/Event",
            "s3:ObjectCreated:Put",
        ),
        (
            "Resources/InboxBucket/Properties/NotificationConfiguration/QueueConfigurations/0/Queue",
            {"Fn::GetAtt": ["Queue", "Arn"]},
        ),
    ],
    no_report_is_taken_for_an_upload: [
        ("Resources/ReportsBucket/Properties/NotificationConfiguration/QueueConfigurations", []),
        (
            "Resources/ReportsBucket/Properties/BucketName",
            {"Fn::Sub": "${BucketPrefix}-uploads-${AWS::AccountId}-${AWS::Region}"},
        ),
        (
            "Resources/ImportFunction/Properties/Environment/Variables/ROLLCALL_REPORTS",
            {"Fn::Sub": "s3://${BucketPrefix}-uploads-${AWS::AccountId}-${AWS::Region}"},
        ),
        (
            "Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/0/Action",
            ["s3:GetObject", "s3:PutObject"],
        ),
        (
            "Resources/CheckRole/Properties/Policies/0/PolicyDocument/Statement/2/Resource",
            {"Fn::Sub": "${UploadsBucket.Arn}/checks/*"},
        ),
    ],
    each_new_receipt_invokes_the_notify_function: [
        (
            "Resources/ReportsBucket/Properties/NotificationConfiguration/LambdaConfigurations/0/Filter",
            {"S3Key": {"Rules": [{"Name": "suffix", "Value": ".html"}]}},
        ),
        ("Resources/ReportsBucket/DependsOn", "NotifyFunction"),
        ("Resources/ReportsMayNotify/Properties/SourceAccount", GONE),
        ("Resources/ReportsMayNotify/Properties/SourceArn", {"Fn::GetAtt": ["ReportsBucket", "Arn"]}),
        (
            "Resources/NotifyRole/Properties/Policies/0/PolicyDocument/Statement/5",
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": {"Fn::Sub": "${ReportsBucket.Arn}/*"}},
        ),
    ],
    an_outcome_that_cannot_be_published_is_kept: [
        ("Resources/NotifyFunction/Properties/DeadLetterConfig", {}),
        ("Resources/NotifyDeadLetterQueue/Properties/MessageRetentionPeriod", 345600),
        ("Resources/NotifyDeadLetterQueue/Properties/RedriveAllowPolicy/redrivePermission", "allowAll"),
        (
            "Resources/Another",
            {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {"EventSourceArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}},
            },
        ),
    ],
    people_subscribe_to_outcomes: [
        ("Resources/OutcomeTopic/Properties/KmsMasterKeyId", ""),
        ("Resources/OutcomeSubscription/Properties/FilterPolicy", {}),
        ("Resources/OutcomeSubscription/Condition", GONE),
        ("Resources/SweepFunction/Properties/Environment/Variables/ROLLCALL_NOTIFY_TOPIC", {"Ref": "AlarmTopic"}),
        ("Parameters/NotifyStatuses/Default", "loaded,partially_loaded,refused,given_up"),
        ("Parameters/NotifyStatuses/AllowedValues/4", GONE),
    ],
    events_are_put_only_as_rollcall: [
        ("Resources/NotifyRole/Properties/Policies/0/PolicyDocument/Statement/2/Condition", {}),
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/6/Resource", "*"),
    ],
    buckets_are_kept: [
        ("Resources/UploadsBucket/DeletionPolicy", "Delete"),
        ("Resources/ReportsBucket/UpdateReplacePolicy", "Delete"),
        ("Resources/ReportsBucket/Properties/VersioningConfiguration/Status", "Suspended"),
        ("Resources/UploadsBucket/Properties/LifecycleConfiguration/Rules/0/Status", "Disabled"),
        ("Resources/UploadsBucket/Properties/LifecycleConfiguration/Rules/0/ExpirationInDays", 30),
        ("Parameters/KeepOldVersionsDays/MinValue", 7),
    ],
    buckets_are_private: [
        ("Resources/UploadsBucket/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy", False),
        ("Resources/ReportsBucket/Properties/OwnershipControls/Rules/0/ObjectOwnership", "ObjectWriter"),
        ("Resources/InboxBucket/Properties/PublicAccessBlockConfiguration", {}),
    ],
    storage_is_encrypted: [
        (
            "Resources/ReportsBucket/Properties/BucketEncryption/ServerSideEncryptionConfiguration/0",
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "none"}},
        ),
        ("Resources/DeadLetterQueue/Properties/SqsManagedSseEnabled", False),
        ("Resources/InboxQueue/Properties/SqsManagedSseEnabled", False),
    ],
    only_encrypted_connections: [
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
        ("Resources/ReportsBucketPolicy/Properties/PolicyDocument/Statement/0/Condition", {}),
        ("Resources/ReportsBucketPolicy/Properties/Bucket", {"Ref": "UploadsBucket"}),
        ("Resources/QueuePolicy/Properties/PolicyDocument/Statement/1", GONE),
        ("Resources/DeadLetterQueuePolicy/Properties/Queues", [{"Ref": "Queue"}]),
        ("Resources/OutcomeTopicPolicy/Properties/PolicyDocument/Statement/0/Condition", {}),
        ("Resources/AlarmTopicPolicy/Properties/PolicyDocument/Statement/1/Principal", {"Service": "s3"}),
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/0/Resource/1", GONE),
        ("Resources/InboxBucketPolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
    ],
    buckets_are_of_this_account: [
        ("Resources/ImportFunction/Properties/Environment/Variables/ROLLCALL_BUCKET_OWNER", ""),
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/0/Condition", {}),
        (
            "Resources/SweepRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition/StringEquals",
            {"aws:ResourceAccount": "444455556666"},
        ),
        ("Resources/ApiRole/Properties/Policies/0/PolicyDocument/Statement/0/Condition", {}),
    ],
    uploads_can_be_read: [
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/1", GONE),
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/1/Effect", "Allow"),
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/2/Principal", {"Service": "s3"}),
        (
            "Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/2/Condition/StringEquals",
            {"s3:x-amz-storage-class": "GLACIER"},
        ),
        (
            "Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/2/Resource",
            {"Fn::Sub": "${ReportsBucket.Arn}/*"},
        ),
    ],
    nothing_is_allowed_to_everybody: [
        ("Resources/QueuePolicy/Properties/PolicyDocument/Statement/0/Principal", {"AWS": "*"}),
        ("Resources/AlarmTopicPolicy/Properties/PolicyDocument/Statement/0/Condition/StringEquals", {}),
    ],
    every_right_is_named: [
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/0/Action", "s3:*"),
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/0/Action", "s3:Get*"),
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/0/Resource", "*"),
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/0/Resource", "arn:aws:s3:::*/*"),
        ("Resources/ApiRole/Properties/Policies/0/PolicyDocument/Statement/0/Resource/0", "arn:aws:s3:::*/web/*"),
        ("Resources/DatabasePolicy/Properties/PolicyDocument/Statement/1/Fn::If/1/Resource", "*"),
        ("Resources/DatabasePolicy/Properties/PolicyDocument/Statement/0/NotAction", "iam:*"),
    ],
    roles_are_ours: [
        ("Resources/SweepFunction/Properties/Role", {"Fn::GetAtt": ["ImportRole", "Arn"]}),
        ("Resources/SweepRole/Properties/ManagedPolicyArns/0", "arn:aws:iam::aws:policy/AdministratorAccess"),
    ],
    each_role_has_exactly_its_rights: [
        (
            "Resources/MigrateRole/Properties/Policies/0/PolicyDocument/Statement/1",
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": {"Ref": "UploadsBucket"}},
        ),
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/2", GONE),
        (
            "Resources/ApiRole/Properties/Policies/0/PolicyDocument/Statement/5",
            {"Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": {"Ref": "DeadLetterQueue"}},
        ),
        ("Resources/CheckRole/Properties/ManagedPolicyArns", [{"Ref": "DatabasePolicy"}]),
        ("Resources/UndoRole/Properties/ManagedPolicyArns", [{"Ref": "DatabasePolicy"}]),
    ],
    only_lambda_itself_makes_network_interfaces: [
        ("Resources/DatabasePolicy/Properties/PolicyDocument/Statement/4/Fn::If/1/Condition", {}),
        ("Resources/UndoRole/Properties/Policies/0/PolicyDocument/Statement/5/Fn::If/1/Condition", {}),
        ("Resources/CheckFunction/Properties/VpcConfig", {"SubnetIds": {"Ref": "SubnetIds"}}),
    ],
    the_import_reads_no_rejected_rows: [
        (
            "Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/1/Resource",
            {"Fn::Sub": "${ReportsBucket.Arn}/*"},
        ),
        (
            "Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/2/Action",
            ["s3:GetObject", "s3:PutObject"],
        ),
    ],
    the_sweep_writes_one_object: [
        (
            "Resources/SweepRole/Properties/Policies/0/PolicyDocument/Statement/1/Resource",
            {"Fn::Sub": "${ReportsBucket.Arn}/*"},
        ),
    ],
    no_two_sweeps_at_once: [
        ("Resources/SweepFunction/Properties/ReservedConcurrentExecutions", 2),
        ("Resources/SweepFunctionEventInvokeConfig/Properties/MaximumRetryAttempts", 2),
        ("Resources/SweepFunctionRegularly/Properties/Targets", []),
    ],
    the_migration_runs_first: [
        ("Resources/MigrateAtThisDeployment/Properties/Record", GONE),
        ("Resources/MigrateAtThisDeployment/Properties/UniqueBy", GONE),
        ("Resources/MigrateAtThisDeployment/Properties/CodeVersion", "1"),
        ("Resources/MigrateAtThisDeployment/Properties/ServiceTimeout", 900),
        ("Resources/SweepFunction/Properties/Environment/Variables/AFTER", ""),
        ("Resources/ImportFunction/Properties/Environment/Variables/AFTER", ""),
        ("Resources/UndoFunction/Properties/Environment/Variables/AFTER", ""),
    ],
    one_package_for_all_functions: [
        ("Resources/SweepFunction/Metadata/ContextPath", "deploy/package/python3.13-arm64"),
        ("Resources/MigrateFunction/Properties/Runtime", "python3.12"),
        ("Resources/ImportFunction/Properties/Handler", "rollcall.entrypoints.sweep_lambda.handler"),
        ("Parameters/Runtime/AllowedValues/0", "python3.15"),
        ("Parameters/Architecture/Default", "x86_64"),
    ],
    logs_are_kept_for_a_time: [
        ("Resources/SweepLogs/Properties/RetentionInDays", 0),
        ("Resources/SweepFunction/Properties/LoggingConfig/LogGroup/Ref", "ImportLogs"),
    ],
    alarms_notify_the_topic: [
        ("Resources/DeadLettersAlarm/Properties/AlarmActions", []),
        ("Resources/FailedImportsAlarm/Properties/TreatMissingData", "missing"),
        ("Resources/MigrateErrorsAlarm", GONE),
        ("Resources/DeadLettersAlarm/Properties/Dimensions/0/Value", {"Fn::GetAtt": ["Queue", "QueueName"]}),
    ],
    every_watched_metric_is_emitted: [
        ("Resources/RefusedFilesAlarm/Properties/MetricName", "ImportRefused"),
        ("Resources/RefusedFilesAlarm/Properties/Dimensions/0/Value", {"Ref": "ImportFunction"}),
        ("Resources/SweepFunction/Properties/Environment/Variables/POWERTOOLS_SERVICE_NAME", "sweep"),
    ],
    the_dashboard_shows_every_alarm: [
        ("Resources/Another", {"Type": "AWS::CloudWatch::Alarm", "Properties": {}}),
        ("Resources/ApiErrorsAlarm/Condition", "MakesUserPool"),
    ],
    every_setting_is_a_parameter: [
        ("Resources/SweepFunction/Properties/Environment/Variables/ROLLCALL_ENCODINGS", GONE),
        ("Resources/SweepFunction/Properties/Environment/Variables/ROLLCALL_ENCODING", "utf-8"),
        ("Parameters/MaxRejected/Default", "10%"),
        ("Parameters/MaxUploadBytes/Default", 5 * GIB),
    ],
    the_page_asks_every_host_of_a_sign_in: [
        (f"{PAGE_HOSTS}/Fn::If/1/Fn::Sub/1/OfTheIssuer/Fn::If/2/Fn::Sub/0", "https://${Host}"),
        ("Parameters/SignInHosts/AllowedPattern", ".*"),
    ],
    only_the_migration_connects_as_the_owner: [
        (
            "Resources/SweepFunction/Properties/Environment/Variables/ROLLCALL_DATABASE_SECRET_ARN",
            {"Ref": "OwnerSecretArn"},
        ),
        (
            "Resources/MigrateFunction/Properties/Environment/Variables/ROLLCALL_DATABASE_SECRET_ARN",
            {"Ref": "DatabaseSecretArn"},
        ),
    ],
    only_the_undo_connects_as_the_operator: [
        (
            "Resources/ApiFunction/Properties/Environment/Variables/ROLLCALL_DATABASE_SECRET_ARN",
            {"Ref": "OperatorSecretArn"},
        ),
        (
            "Resources/UndoFunction/Properties/Environment/Variables/ROLLCALL_DATABASE_SECRET_ARN",
            {"Ref": "DatabaseSecretArn"},
        ),
        (
            "Resources/UndoFunction/Properties/Environment/Variables/ROLLCALL_DATABASE_URL",
            {"Ref": "DatabaseUrl"},
        ),
        ("Resources/CheckFunction/Properties/Environment/Variables/ROLLCALL_DATABASE_URL", {"Ref": "DatabaseUrl"}),
    ],
    settings_of_the_template_are_valid: [
        ("Parameters/MaxCsvBytes/Default", GIB),
        ("Resources/ImportFunction/Properties/Environment/Variables/ROLLCALL_UPLOADS", {"Fn::Sub": "s3://other"}),
        ("Resources/ImportFunction/Properties/Environment/Variables/ROLLCALL_INBOX", {"Fn::Sub": "s3://other"}),
    ],
    choices_equal_those_of_rollcall: [
        ("Parameters/OnDuplicate/AllowedValues/1", GONE),
    ],
    every_parameter_is_described: [
        ("Parameters/OnDuplicate/Description", ""),
        ("Parameters/Another", {"Description": "Another."}),
    ],
    no_password_is_a_parameter: [
        ("Parameters/DatabaseUrl/AllowedPattern", ".*"),
        ("Parameters/DatabaseUrl/AllowedPattern", "^$|^postgres(ql)?://([^:@/?]+@)?(?!.*password=)[^@]*$"),
    ],
    no_weaker_tls_is_a_parameter: [
        ("Parameters/DatabaseUrl/AllowedPattern", "^$|^postgres(ql)?://([^:@/?]+@)?(?!.*password=)[^@]*$"),
        (
            "Parameters/DatabaseUrl/AllowedPattern",
            "^$|^postgres(ql)?://(?!.*sslmode=(?!verify-full))[^@]*@?[^@]*$",
        ),
    ],
    every_declared_route_exists: [
        ("Resources/PolicyRoute", GONE),
        ("Resources/PolicyRoute/Properties/RouteKey", "GET /api/policies"),
        ("Resources/UsersRoute/Properties/AuthorizationScopes/Fn::If/1/0", "rollcall/upload"),
        ("Resources/UndoRoute/Properties/Target", {"Fn::Sub": "integrations/${ApiIntegration}"}),
        ("Resources/UsersRoute/Properties/Target", {"Fn::Sub": "integrations/${UndoIntegration}"}),
        ("Resources/ApiIntegration/Properties/PayloadFormatVersion", "1.0"),
    ],
    every_route_asks_who_calls: [
        ("Resources/PolicyRoute/Properties/AuthorizationType", "NONE"),
        ("Resources/PolicyRoute/Properties/AuthorizationType/Fn::If/2", "NONE"),
        ("Resources/UsersRoute/Properties/AuthorizationScopes", GONE),
        ("Resources/UsersRoute/Properties/AuthorizationScopes/Fn::If/1", []),
        ("Resources/UsersRoute/Properties/AuthorizationScopes/Fn::If/1/0", "openid"),
        ("Resources/UsersRoute/Properties/AuthorizerId/Fn::If/0", "MakesUserPool"),
    ],
    tokens_are_those_of_the_issuer: [
        ("Resources/Authorizer/Properties/JwtConfiguration/Audience", []),
        ("Resources/Authorizer/Properties/JwtConfiguration/Issuer", {"Ref": "JwtIssuer"}),
        ("Resources/Authorizer/Properties/IdentitySource", ["$request.querystring.token"]),
    ],
    nothing_leads_past_the_routes: [
        ("Resources/Another", {"Type": "AWS::Lambda::Url", "Properties": {"AuthType": "AWS_IAM"}}),
        ("Resources/PolicyRoute/Properties/RouteKey", "$default"),
        ("Resources/PolicyRoute/Properties/RouteKey", "ANY /api/policy"),
        ("Resources/PolicyRoute/Properties/RouteKey", "GET /api/{proxy+}"),
        ("Resources/HttpApi/Properties/Target", {"Fn::GetAtt": ["ApiFunction", "Arn"]}),
        ("Resources/HttpApi/Properties/CorsConfiguration", {"AllowOrigins": ["*"]}),
    ],
    only_the_http_api_invokes_its_functions: [
        ("Resources/ApiMayBeAsked/Properties/SourceArn", {"Fn::Sub": "arn:aws:execute-api:*"}),
        ("Resources/UndoMayBeAsked/Properties/Principal", "*"),
        (
            "Resources/Another",
            {"Type": "AWS::Lambda::Permission", "Properties": {"FunctionName": {"Ref": "ImportFunction"}}},
        ),
    ],
    off_makes_nothing_of_the_api: [
        ("Parameters/ApiAuth/Default", "iam"),
        ("Resources/HttpApi/Condition", GONE),
        ("Resources/SignInPool/Condition", GONE),
        ("Resources/InboxBucket/Condition", "Reserves"),
        ("Resources/UndoRole/Condition", GONE),
        ("Conditions/HasApi/Fn::Not/0/Fn::Equals/1", "no"),
    ],
    every_resource_refers_to_what_exists: [
        ("Resources/ApiLogs/Condition", "MakesUserPool"),
        ("Resources/ApiErrorsAlarm/Condition", GONE),
        ("Resources/InboxQueuePolicy/Condition", "WithJwt"),
    ],
    an_open_api_does_not_deploy: [
        ("Rules/JwtNeedsAnIssuer", GONE),
        ("Rules/JwtNeedsAnIssuer/RuleCondition/Fn::Equals/1", "iam"),
        ("Rules/JwtNeedsAnIssuer/Assertions/1", GONE),
        ("Rules/OnlyJwtHasAnIssuer", GONE),
        ("Parameters/JwtIssuer/AllowedPattern", ".*"),
        ("Parameters/ApiAuth/AllowedValues/3", "none"),
    ],
    an_api_without_the_operators_role_does_not_deploy: [
        ("Rules/ApiNeedsTheOperator", GONE),
        ("Rules/ApiNeedsTheOperator/RuleCondition", {"Fn::Equals": [{"Ref": "ApiAuth"}, "jwt"]}),
        ("Rules/ApiNeedsTheOperator/Assertions/0/Assert/Fn::Or/0/Fn::And/2", GONE),
        ("Parameters/OperatorUrl/AllowedPattern", ".*"),
    ],
    the_inbox_is_for_a_day: [
        ("Resources/InboxBucket/Properties/LifecycleConfiguration/Rules/0/ExpirationInDays", 30),
        ("Resources/InboxBucket/Properties/LifecycleConfiguration/Rules/0/Prefix", "web/"),
        ("Resources/InboxBucket/Properties/VersioningConfiguration/Status", "Suspended"),
    ],
    only_the_page_sends_to_the_inbox: [
        ("Resources/InboxBucket/Properties/CorsConfiguration/CorsRules/0/AllowedOrigins/0", "*"),
        ("Resources/InboxBucket/Properties/CorsConfiguration/CorsRules/0/AllowedMethods/1", "GET"),
        ("Resources/ReportsBucket/Properties/CorsConfiguration", {"CorsRules": []}),
    ],
    only_the_api_names_uploaders: [
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/3", GONE),
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/3/Effect", "Allow"),
        (
            "Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/3/Condition",
            {"StringNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["ImportRole", "Arn"]}}},
        ),
        ("Resources/InboxBucketPolicy/Properties/PolicyDocument/Statement/1/Principal", {"Service": "s3"}),
        (
            "Resources/InboxBucketPolicy/Properties/PolicyDocument/Statement/1/Resource",
            {"Fn::Sub": "${InboxBucket.Arn}/web/x"},
        ),
    ],
    the_api_reaches_only_its_own_folders: [
        (
            "Resources/ApiRole/Properties/Policies/0/PolicyDocument/Statement/0/Resource/1",
            {"Fn::Sub": "${UploadsBucket.Arn}/*"},
        ),
        (
            "Resources/ApiRole/Properties/Policies/0/PolicyDocument/Statement/2/Resource",
            {"Fn::Sub": "${UploadsBucket.Arn}/*"},
        ),
        (
            "Resources/CheckRole/Properties/Policies/0/PolicyDocument/Statement/2/Resource",
            {"Fn::Sub": "${ReportsBucket.Arn}/*"},
        ),
    ],
    access_logs_show_no_request: [
        ("Resources/HttpApiStage/Properties/AccessLogSettings/Format", '{"path": "$context.path"}'),
        ("Resources/AccessLogs/Properties/RetentionInDays", 3653),
    ],
    requests_are_throttled: [
        ("Resources/HttpApiStage/Properties/DefaultRouteSettings", {}),
        ("Resources/ApiFunction/Properties/ReservedConcurrentExecutions", 1000),
    ],
    only_operators_of_the_pool_operate: [
        ("Resources/SignInPool/Properties/AdminCreateUserConfig/AllowAdminCreateUserOnly", False),
        ("Resources/SignInPool/Properties/LambdaConfig", {}),
        ("Resources/SignInPool/Properties/LambdaConfig/PreTokenGenerationConfig/LambdaVersion", "V1_0"),
        ("Resources/SignInPool/Properties/UserPoolTier", "LITE"),
        ("Resources/Operators/Properties/GroupName", "everybody"),
        ("Resources/SignInScopes/Properties/Identifier", "another"),
    ],
    a_sign_in_returns_to_the_page: [
        ("Resources/SignInClient/Properties/CallbackURLs/0", "http://localhost"),
        ("Resources/SignInClient/Properties/AllowedOAuthFlows/1", "implicit"),
        ("Resources/SignInClient/Properties/ExplicitAuthFlows/1", "ALLOW_USER_PASSWORD_AUTH"),
    ],
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_template_passes_each_check(check: Check) -> None:
    check(TEMPLATE)


@pytest.mark.parametrize(
    ("check", "place", "value"),
    [(check, *broken) for check, ways in CHECKS.items() for broken in ways],
    ids=lambda part: part.__name__ if callable(part) else None,
)
def test_each_check_fails_on_a_broken_template(check: Check, place: str, value: object) -> None:
    template = deepcopy(TEMPLATE)
    put(template, place.split("/"), value)

    with pytest.raises(AssertionError):
        check(template)


def put(part: Any, place: list[str], value: object) -> None:  # noqa: ANN401 - a template may contain any YAML
    """Change one value deep in a template."""
    *way, last = [int(step) if step.isdigit() else step for step in place]
    for step in way:
        part = part[step]
    if value is GONE:
        del part[last]
    elif isinstance(part, list) and last == len(part):
        part.append(value)
    else:
        part[last] = value
