"""Checks of the template as CloudFormation receives it, which no linter makes; each check is shown to fail."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from enum import StrEnum
from typing import Any

import attrs
import pytest

from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat
from rollcall.domain.receipt import Status
from rollcall.settings import PREFIX, DatabaseAuth, Settings, read_settings
from support.template import ROOT, Template, translated

Check = Callable[[Template], None]

GIB = 1024**3
FORTNIGHT = 14 * 24 * 3600

FUNCTIONS = ("ImportFunction", "SweepFunction", "MigrateFunction")
BUCKETS = ("UploadsBucket", "ReportsBucket")
QUEUES = ("Queue", "DeadLetterQueue")

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
GIVEN = {"uploads", "reports", "bucket_owner", "queue"}
ABSENT = {"data"}
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
    policies += [properties(template, policy["Ref"]) for policy in properties(template, role)["ManagedPolicyArns"]]
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


def metrics_of_our_own(template: Template) -> set[tuple[str, str]]:
    """Return Rollcall's metrics on alarms and dashboard, each with its service."""
    alarms = of_type(template, "CloudWatch::Alarm").values()
    shown = {
        (alarm["MetricName"], only(names_in(alarm["Dimensions"])))
        for alarm in alarms
        if alarm["Namespace"] == "Rollcall"
    }
    body = json.loads(properties(template, "Dashboard")["DashboardBody"]["Fn::Sub"])
    for widget in body["widgets"]:
        rows = widget["properties"].get("metrics", [])
        if rows and rows[0][0] == "Rollcall":
            [service] = re.findall(r"^\${(.*)}$", rows[0][3])
            shown |= {(row[1], service) for row in rows if row[0] != "..."}
    return shown


# Properties of the template -----------------------------------------------------------------------


def one_source_of_events(template: Template) -> None:
    """The queue is the only source: with two, two functions would import the same upload at once."""
    source = only(of_type(template, "Lambda::EventSourceMapping").values())
    assert source["EventSourceArn"] == {"Fn::GetAtt": ["Queue", "Arn"]}
    assert source["FunctionName"] == {"Ref": "ImportFunction"}


def only_failed_messages_are_delivered_again(template: Template) -> None:
    """The other messages of the batch are deleted."""
    source = only(of_type(template, "Lambda::EventSourceMapping").values())
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def reserved_imports_equal_the_polling_limit(template: Template) -> None:
    """Reserved concurrency equals the polling limit; otherwise throttling would use up the messages' tries."""
    source = only(of_type(template, "Lambda::EventSourceMapping").values())
    most = {"Ref": "ImportsAtOnce"}
    assert source["ScalingConfig"] == {"MaximumConcurrency": most}
    reserved = properties(template, "ImportFunction")["ReservedConcurrentExecutions"]
    assert reserved == {"Fn::If": ["Reserves", most, {"Ref": "AWS::NoValue"}]}


def no_function_takes_longer_than_lambda_lets_it(template: Template) -> None:
    """15 minutes."""
    for name in FUNCTIONS:
        assert 0 < properties(template, name)["Timeout"] <= 900


def messages_stay_hidden_for_six_timeouts(template: Template) -> None:
    """AWS Lambda's developer guide requires it, so that a message in work is not delivered again."""
    timeout = properties(template, "ImportFunction")["Timeout"]
    assert properties(template, "Queue")["VisibilityTimeout"] >= 6 * timeout


def three_tries_and_then_the_dead_letter_queue(template: Template) -> None:
    """The dead-letter queue keeps messages as long as SQS allows."""
    assert properties(template, "Queue")["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]},
        "maxReceiveCount": {"Ref": "Tries"},  # in its last try, the import refuses an upload that takes too long
    }
    assert properties(template, "DeadLetterQueue")["MessageRetentionPeriod"] == FORTNIGHT
    assert "RedrivePolicy" not in properties(template, "DeadLetterQueue")


def only_our_queue_uses_the_dead_letter_queue(template: Template) -> None:
    """Its name is built from parameters, because each queue would have to wait for the other."""
    allowed = properties(template, "DeadLetterQueue")["RedriveAllowPolicy"]
    name = properties(template, "Queue")["QueueName"]["Fn::Sub"]
    assert allowed["redrivePermission"] == "byQueue"
    assert allowed["sourceQueueArns"] == [
        {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:" + name}
    ]


def only_our_bucket_notifies_the_queue(template: Template) -> None:
    """The policy names this account, because anybody may take the name of a deleted bucket."""
    allowed = only(statements(properties(template, "QueuePolicy"), "Allow"))
    bucket = properties(template, "UploadsBucket")["BucketName"]["Fn::Sub"]
    assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed["Action"] == "sqs:SendMessage"
    assert allowed["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
        "ArnEquals": {"aws:SourceArn": {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{bucket}"}},
    }
    assert template["Resources"]["UploadsBucket"]["DependsOn"] == "QueuePolicy"


def each_new_upload_notifies_the_queue(template: Template) -> None:
    """One notification for each object, to the queue only."""
    assert properties(template, "UploadsBucket")["NotificationConfiguration"] == {
        "QueueConfigurations": [{"Event": "s3:ObjectCreated:*", "Queue": {"Fn::GetAtt": ["Queue", "Arn"]}}]
    }


def no_report_is_taken_for_an_upload(template: Template) -> None:
    """Reports have their own bucket without notifications, and no function may write to the uploads bucket."""
    assert "NotificationConfiguration" not in properties(template, "ReportsBucket")
    names = [properties(template, bucket)["BucketName"]["Fn::Sub"] for bucket in BUCKETS]
    assert len(set(names)) == len(BUCKETS)
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        assert variables["ROLLCALL_UPLOADS"]["Fn::Sub"] == f"s3://{names[0]}"
        assert variables["ROLLCALL_REPORTS"]["Fn::Sub"] == f"s3://{names[1]}"
    for role in of_type(template, "IAM::Role"):
        for allowed in rights(template, role):
            if any(re.match("s3:(Put|Delete|Restore|Replicate)", action) for action in listed(allowed["Action"])):
                assert names_in(allowed["Resource"]) == {"ReportsBucket"}


def buckets_are_kept(template: Template) -> None:
    """Old versions are kept for a time, and the buckets even after the stack is deleted."""
    for name in BUCKETS:
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
    for name in QUEUES:
        assert properties(template, name)["SqsManagedSseEnabled"] is True


def only_encrypted_connections(template: Template) -> None:
    """Buckets, objects, queues and topic refuse other connections to everybody."""
    guarded = {
        "UploadsBucketPolicy": ("UploadsBucket", "s3:*"),
        "ReportsBucketPolicy": ("ReportsBucket", "s3:*"),
        "QueuePolicy": ("Queue", "sqs:*"),
        "DeadLetterQueuePolicy": ("DeadLetterQueue", "sqs:*"),
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
            # In a bucket, all objects or all receipts; otherwise the resource itself.
            named = text.removesuffix("/receipt.json").removesuffix("Bucket.Arn}/*")
            assert "*" not in named or (text == "*" and actions <= NAMELESS)


def roles_are_ours(template: Template) -> None:
    """Each function has its own role, without managed policies of AWS, which allow writing any log."""
    roles = [properties(template, name)["Role"]["Fn::GetAtt"][0] for name in FUNCTIONS]
    assert len(set(roles)) == len(FUNCTIONS)
    for role in of_type(template, "IAM::Role").values():
        assert role["ManagedPolicyArns"] == [{"Ref": "EveryFunctionPolicy"}]


def each_role_has_exactly_its_rights(template: Template) -> None:
    """Each role has exactly these rights."""
    allowed = {
        role: {
            (action, *sorted(names_in(statement["Resource"])))
            for statement in rights(template, role)
            for action in listed(statement["Action"])
            if action not in NAMELESS
        }
        for role in ("ImportRole", "SweepRole", "MigrateRole")
    }
    database = {
        ("secretsmanager:GetSecretValue", "DatabaseSecretArn"),
        ("kms:Decrypt", "DatabaseSecretKeyArn"),
        ("rds-db:connect", "DatabaseUserArn"),
    }
    assert allowed["ImportRole"] == database | {
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
    assert allowed["SweepRole"] == database | {
        ("s3:ListBucketVersions", "UploadsBucket"),
        ("s3:GetObject", "ReportsBucket"),
        ("s3:PutObject", "ReportsBucket"),
        ("s3:ListBucket", "ReportsBucket"),
        *((f"sqs:{action}", "Queue") for action in ("GetQueueAttributes", "GetQueueUrl", "SendMessage")),
        ("logs:CreateLogStream", "SweepLogs"),
        ("logs:PutLogEvents", "SweepLogs"),
    }
    assert allowed["MigrateRole"] == database | {
        ("logs:CreateLogStream", "MigrateLogs"),
        ("logs:PutLogEvents", "MigrateLogs"),
        ("secretsmanager:GetSecretValue", "OwnerSecretArn"),
    }


def only_lambda_itself_makes_network_interfaces(template: Template) -> None:
    """Requests of the function's code name the function; AWS Lambda's own requests with its role do not."""
    for role in of_type(template, "IAM::Role"):
        on_networks = [
            allowed
            for allowed in rights(template, role)
            if any(action.startswith("ec2:") for action in listed(allowed["Action"]))
        ]
        assert only(on_networks)["Condition"] == {"Null": {"lambda:SourceFunctionArn": "true"}}


def the_import_reads_no_rejected_rows(template: Template) -> None:
    """It may read only receipts."""
    assert objects_in_reports(template, "ImportRole", "s3:GetObject") == [
        {"Fn::Sub": "${ReportsBucket.Arn}/*/receipt.json"}
    ]
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


def one_package_for_all_functions(template: Template) -> None:
    """It is built for their runtime and architecture."""
    for name in FUNCTIONS:
        function = template["Resources"][name]
        assert function["Metadata"] == {
            "BuildMethod": "makefile",
            "ContextPath": {"Fn::Sub": "deploy/package/${Runtime}-${Architecture}"},
            "WorkingDirectory": ".",
        }
        assert function["Properties"]["Runtime"] == {"Ref": "Runtime"}
        assert function["Properties"]["Architectures"] == [{"Ref": "Architecture"}]
        module, _, attribute = function["Properties"]["Handler"].rpartition(".")
        assert module == f"rollcall.entrypoints.{name.removesuffix('Function').lower()}_lambda"
        assert attribute == "handler"
    made = {path.parent.name for path in (ROOT / "deploy/package").glob("*/Makefile")}
    parameters = template["Parameters"]
    runtimes, architectures = (parameters[name]["AllowedValues"] for name in ("Runtime", "Architecture"))
    # AWS runs Python 3.11 on a Linux that is too old for libpq's arm64 build; a rule of the template says so.
    assert made == {f"{one}-{other}" for one in runtimes for other in architectures} - {"python3.11-arm64"}
    assert parameters["Runtime"]["Default"] == "python3.13"
    assert parameters["Architecture"]["Default"] == "arm64"
    assert "OldLambdaHasNoArm" in template["Rules"]


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
        *(("Errors", function) for function in FUNCTIONS),
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
    body = json.loads(properties(template, "Dashboard")["DashboardBody"]["Fn::Sub"])
    shown = only([widget["properties"]["alarms"] for widget in body["widgets"] if widget["type"] == "alarm"])
    assert sorted(shown) == sorted(f"${{{name}.Arn}}" for name in of_type(template, "CloudWatch::Alarm"))


def every_setting_is_a_parameter(template: Template) -> None:
    """Each parameter has the setting's default, and each function receives it."""
    known = {field.name: field for field in attrs.fields(Settings) if field.name not in ABSENT}
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        ours = {name for name in variables if name.startswith(PREFIX)}
        assert ours == {PREFIX + name.upper() for name in known}
    for name, field in known.items():
        if name in GIVEN:
            continue
        parameter = name.title().replace("_", "")
        variables = properties(template, "ImportFunction")["Environment"]["Variables"]
        assert variables[PREFIX + name.upper()] == {"Ref": parameter}
        declared = template["Parameters"][parameter]
        assert str(declared["Default"]) == OTHER_DEFAULTS.get(name, field.default or "")


def only_the_migration_connects_as_the_owner(template: Template) -> None:
    """Only the migration has the secret of the tables' owner, because an owner can drop tables."""
    for function in FUNCTIONS:
        secret = properties(template, function)["Environment"]["Variables"]["ROLLCALL_DATABASE_SECRET_ARN"]
        assert ("OwnerSecretArn" in names_in(secret)) == (function == "MigrateFunction")


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
            case {"Ref": parameter}:
                given[name] = str(template["Parameters"][parameter]["Default"])
            case {"Fn::Sub": text}:
                given[name] = re.sub(r"\$\{([\w:]+)\}", lambda found: stack[found[1]], text)
            case {"Fn::GetAtt": ["Queue", "Arn"]}:
                given[name] = "arn:aws:sqs:eu-central-1:111122223333:rollcall-uploads"
    settings = read_settings(given)
    assert settings.uploads
    assert settings.uploads.place == "rollcall-uploads-111122223333-eu-central-1"
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
    reserved_imports_equal_the_polling_limit: [
        ("Resources/ImportFunctionUploads/Properties/ScalingConfig/MaximumConcurrency", 100),
        ("Resources/ImportFunction/Properties/ReservedConcurrentExecutions", 1),
    ],
    no_function_takes_longer_than_lambda_lets_it: [
        ("Resources/ImportFunction/Properties/Timeout", 1200),
    ],
    messages_stay_hidden_for_six_timeouts: [
        ("Resources/Queue/Properties/VisibilityTimeout", 5399),
    ],
    three_tries_and_then_the_dead_letter_queue: [
        ("Resources/Queue/Properties/RedrivePolicy/maxReceiveCount", 1),
        ("Resources/DeadLetterQueue/Properties/MessageRetentionPeriod", 345600),
    ],
    only_our_queue_uses_the_dead_letter_queue: [
        ("Resources/DeadLetterQueue/Properties/RedriveAllowPolicy/redrivePermission", "allowAll"),
        ("Resources/Queue/Properties/QueueName", {"Fn::Sub": "another"}),
    ],
    only_our_bucket_notifies_the_queue: [
        ("Resources/QueuePolicy/Properties/PolicyDocument/Statement/0/Condition/StringEquals", {}),
        ("Resources/QueuePolicy/Properties/PolicyDocument/Statement/0/Condition/ArnEquals", {}),
        ("Resources/UploadsBucket/Properties/BucketName", {"Fn::Sub": "another"}),
        ("Resources/UploadsBucket/DependsOn", "Queue"),
    ],
    each_new_upload_notifies_the_queue: [
        (
            "Resources/UploadsBucket/Properties/NotificationConfiguration/QueueConfigurations/0/Event",
            "s3:ObjectCreated:Put",
        ),
    ],
    no_report_is_taken_for_an_upload: [
        ("Resources/ReportsBucket/Properties/NotificationConfiguration", {}),
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
    ],
    storage_is_encrypted: [
        (
            "Resources/ReportsBucket/Properties/BucketEncryption/ServerSideEncryptionConfiguration/0",
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "none"}},
        ),
        ("Resources/DeadLetterQueue/Properties/SqsManagedSseEnabled", False),
    ],
    only_encrypted_connections: [
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
        ("Resources/ReportsBucketPolicy/Properties/PolicyDocument/Statement/0/Condition", {}),
        ("Resources/ReportsBucketPolicy/Properties/Bucket", {"Ref": "UploadsBucket"}),
        ("Resources/QueuePolicy/Properties/PolicyDocument/Statement/1", GONE),
        ("Resources/DeadLetterQueuePolicy/Properties/Queues", [{"Ref": "Queue"}]),
        ("Resources/AlarmTopicPolicy/Properties/PolicyDocument/Statement/1/Principal", {"Service": "s3"}),
        ("Resources/UploadsBucketPolicy/Properties/PolicyDocument/Statement/0/Resource/1", GONE),
    ],
    buckets_are_of_this_account: [
        ("Resources/ImportFunction/Properties/Environment/Variables/ROLLCALL_BUCKET_OWNER", ""),
        ("Resources/ImportRole/Properties/Policies/0/PolicyDocument/Statement/0/Condition", {}),
        (
            "Resources/SweepRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition/StringEquals",
            {"aws:ResourceAccount": "444455556666"},
        ),
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
        ("Resources/EveryFunctionPolicy/Properties/PolicyDocument/Statement/1/Fn::If/1/Resource", "*"),
        ("Resources/EveryFunctionPolicy/Properties/PolicyDocument/Statement/0/NotAction", "iam:*"),
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
    ],
    only_lambda_itself_makes_network_interfaces: [
        ("Resources/EveryFunctionPolicy/Properties/PolicyDocument/Statement/4/Fn::If/1/Condition", {}),
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
        ("Resources/MigrateAtThisDeployment/Properties/UniqueBy", GONE),
        ("Resources/MigrateAtThisDeployment/Properties/CodeVersion", "1"),
        ("Resources/MigrateAtThisDeployment/Properties/ServiceTimeout", 900),
        ("Resources/SweepFunction/Properties/Environment/Variables/AFTER", ""),
        ("Resources/ImportFunction/Properties/Environment/Variables/AFTER", ""),
    ],
    one_package_for_all_functions: [
        ("Resources/SweepFunction/Metadata/ContextPath", "deploy/package/python3.13-arm64"),
        ("Resources/MigrateFunction/Properties/Runtime", "python3.12"),
        ("Resources/ImportFunction/Properties/Handler", "rollcall.entrypoints.sweep_lambda.handler"),
        ("Parameters/Runtime/AllowedValues/0", "python3.14"),
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
    ],
    every_setting_is_a_parameter: [
        ("Resources/SweepFunction/Properties/Environment/Variables/ROLLCALL_ENCODINGS", GONE),
        ("Resources/SweepFunction/Properties/Environment/Variables/ROLLCALL_ENCODING", "utf-8"),
        ("Parameters/MaxRejected/Default", "10%"),
        ("Parameters/MaxUploadBytes/Default", 5 * GIB),
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
    settings_of_the_template_are_valid: [
        ("Parameters/MaxCsvBytes/Default", GIB),
        ("Resources/ImportFunction/Properties/Environment/Variables/ROLLCALL_UPLOADS", {"Fn::Sub": "s3://other"}),
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
