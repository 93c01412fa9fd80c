"""Static bearer tokens over real TLS: who may do what where, what refusals say, and what is written about it."""

from __future__ import annotations

import logging

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler import Scheduler
from durabletask_scheduler.rpc import RPCS
from durabletask_scheduler.security import Security, SecurityError, TlsFiles
from durabletask_scheduler.security.roles import KINDS, ROLES, Grant, Principal
from durabletask_scheduler.security.tokens import TokenFile, new_token, token_digest, token_line
from google.protobuf.empty_pb2 import Empty

WAIT = 10
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
WORK = pb.GetWorkItemsRequest()
START = pb.CreateInstanceRequest(instanceId="order-7", name="order")


def bearer(token, task_hub=None):
    hub = (("taskhub", task_hub),) if task_hub else ()
    return (("authorization", f"Bearer {token}"), *hub)


class Tokens:
    """A token file and the tokens in it."""

    def __init__(self, path):
        self.path = path
        self._lines = {}
        path.write_text("# nobody yet\n\n")

    def add(self, name, roles, task_hub):
        token = new_token()
        self._lines[token] = token_line(name, roles, task_hub, token)
        self.path.write_text("\n".join(self._lines.values()) + "\n")
        return token

    def remove(self, token):
        del self._lines[token]
        self.path.write_text("# some were removed\n" + "\n".join(self._lines.values()))


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "tokens")


@pytest.fixture
def stub(serve, connect, server_files, tokens):
    """Over TLS to a scheduler that wants the tokens, and looks at their file before every call."""
    return connect(serve(Security(TlsFiles(*server_files), str(tokens.path), token_check_seconds=0)))


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer "),),
        (("authorization", "Basic dXNlcjpwYXNz"),),
        bearer("dts_of-nobody"),
        bearer("x" * 4000),
    ],
)
def test_calls_without_valid_credentials_are_refused_with_one_text_that_tells_nothing(stub, refusal, tokens, metadata):
    tokens.add("someone", ["admin"], "*")
    expected = "this scheduler wants valid credentials: metadata 'authorization' with 'Bearer TOKEN'"
    for method, request in ((stub.Hello, Empty()), (stub.StartInstance, START), (stub.GetWorkItems, WORK)):
        assert refusal(method, request, metadata=metadata) == (UNAUTHENTICATED, expected)


def test_a_token_holds_in_its_task_hub_alone_whether_others_exist_or_not(stub, refusal, tokens):
    token = tokens.add("shop", ["operator"], "billing")
    assert stub.StartInstance(START, metadata=bearer(token, "billing"), timeout=WAIT).instanceId == "order-7"
    for task_hub in ("orders", "no-such-hub", None):
        code, text = refusal(stub.StartInstance, START, metadata=bearer(token, task_hub))
        assert code is PERMISSION_DENIED
        assert text == f"these credentials do not permit StartInstance in task hub '{task_hub or 'orders'}'"


def test_every_role_does_its_own_and_no_more(stub, refusal, tokens):
    calls = {
        "reader": (stub.GetInstance, pb.GetInstanceRequest(instanceId="order-7")),
        "operator": (stub.StartInstance, START),
        "worker": (stub.CompleteActivityTask, pb.ActivityResponse(instanceId="order-7", completionToken="x")),
        "admin": (stub.CreateTaskHub, pb.CreateTaskHubRequest()),
    }
    permitted = {"reader": {"reader"}, "operator": {"reader", "operator"}, "worker": {"worker"}, "admin": set(ROLES)}
    for role in ROLES:
        metadata = bearer(tokens.add(role, [role], "orders"))
        stub.Hello(Empty(), metadata=metadata, timeout=WAIT)
        for wanted, (method, request) in calls.items():
            if wanted in permitted[role]:
                continue
            assert refusal(method, request, metadata=metadata)[0] is PERMISSION_DENIED, (role, wanted)
        stub_method, request = calls[role]
        stub_method(request, metadata=metadata, timeout=WAIT)


def test_every_call_of_the_protocol_has_a_kind():
    assert set(KINDS) == set(RPCS)
    assert not Principal("x", (Grant(frozenset(ROLES), "*"),)).may("NoSuchCall", "orders")


def test_a_token_may_have_several_roles_and_task_hubs(stub, refusal, tokens):
    token = tokens.add("app", ["worker", "operator"], "orders")
    digest = token_digest(token)
    tokens.path.write_text(f"{tokens.path.read_text()}app reader billing sha256:{digest}  # looks only\n")
    stub.StartInstance(START, metadata=bearer(token), timeout=WAIT)
    item = next(stub.GetWorkItems(WORK, metadata=bearer(token), timeout=WAIT))
    assert item.orchestratorRequest.instanceId == "order-7"
    asked = pb.GetInstanceRequest(instanceId="order-7")
    assert not stub.GetInstance(asked, metadata=bearer(token, "billing"), timeout=WAIT).exists
    assert refusal(stub.StartInstance, START, metadata=bearer(token, "billing"))[0] is PERMISSION_DENIED


def test_a_token_that_is_removed_from_the_file_is_refused_and_its_stream_gets_no_more_work(stub, refusal, tokens):
    worker, starter = tokens.add("w", ["worker"], "*"), tokens.add("s", ["operator"], "*")
    stream = stub.GetWorkItems(WORK, metadata=bearer(worker))
    stub.StartInstance(pb.CreateInstanceRequest(instanceId="before", name="n"), metadata=bearer(starter), timeout=WAIT)
    assert next(stream).orchestratorRequest.instanceId == "before"
    tokens.remove(worker)
    assert refusal(stub.Hello, Empty(), metadata=bearer(worker))[0] is UNAUTHENTICATED
    stub.StartInstance(pb.CreateInstanceRequest(instanceId="after", name="n"), metadata=bearer(starter), timeout=WAIT)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is UNAUTHENTICATED
    successor = stub.GetWorkItems(WORK, metadata=bearer(tokens.add("w2", ["worker"], "*")), timeout=WAIT)
    assert {next(successor).orchestratorRequest.instanceId for _ in range(2)} == {"before", "after"}


def test_a_file_that_became_unusable_leaves_the_tokens_as_they_were_and_is_reported(stub, tokens, caplog):
    token = tokens.add("reader", ["reader"], "*")
    stub.Hello(Empty(), metadata=bearer(token), timeout=WAIT)
    with caplog.at_level(logging.ERROR, logger="durabletask_scheduler.security"):
        for content in ("not a line\n", None):
            tokens.path.write_text(content) if content else tokens.path.unlink()
            stub.Hello(Empty(), metadata=bearer(token), timeout=WAIT)
    assert "line 1: expected NAME ROLE" in caplog.text and "No such file" in caplog.text


def test_the_audit_log_has_a_line_for_every_change_and_every_refusal(stub, refusal, tokens, caplog):
    operator = tokens.add("shop", ["operator"], "orders")
    evil = 'x" outcome=OK\nwho="root'
    with caplog.at_level(logging.INFO, logger="durabletask_scheduler.audit"):
        stub.StartInstance(START, metadata=bearer(operator), timeout=WAIT)
        stub.GetInstance(pb.GetInstanceRequest(instanceId="order-7"), metadata=bearer(operator), timeout=WAIT)
        refusal(stub.StartInstance, START, metadata=bearer(operator))
        refusal(stub.TerminateInstance, pb.TerminateRequest(instanceId="a"), metadata=bearer(operator, "billing"))
        refusal(stub.RaiseEvent, pb.RaiseEventRequest(instanceId=evil, name="n"), metadata=bearer(operator))
        batch = pb.PurgeInstancesRequest(instanceBatch=pb.InstanceBatch(instanceIds=["a", "b"]))
        stub.PurgeInstances(batch, metadata=bearer(operator), timeout=WAIT)
        refusal(stub.StartInstance, START)
        endless = pb.RaiseEventRequest(instanceId="x" * 100_000, name="n")
        refusal(stub.RaiseEvent, endless, metadata=bearer(operator))
    lines = [record.getMessage() for record in caplog.records if record.name == "durabletask_scheduler.audit"]
    *lines, long = lines
    assert lines == [
        'who="shop" what=StartInstance hub="orders" id="order-7" outcome=OK',
        'who="shop" what=StartInstance hub="orders" id="order-7" outcome=ALREADY_EXISTS',
        'who="shop" what=TerminateInstance hub="billing" id="" outcome=PERMISSION_DENIED '
        'reason="no role for it in this task hub"',
        'who="shop" what=RaiseEvent hub="orders" id="x\\" outcome=OK\\nwho=\\"root" outcome=NOT_FOUND',
        'who="shop" what=PurgeInstances hub="orders" id="a,b" outcome=OK',
        'who="" what=StartInstance hub="orders" id="" outcome=UNAUTHENTICATED reason="no metadata \'authorization\'"',
    ]
    assert len(long) < 3000
    assert operator not in caplog.text


def test_the_audit_log_names_the_entity_that_was_unlocked_by_force(stub, refusal, tokens, caplog):
    operator = tokens.add("shop", ["operator"], "orders")
    with caplog.at_level(logging.INFO, logger="durabletask_scheduler.audit"):
        for asked in ('{"entity": "@stock@a", "reason": "r"}', "[]", '{"entity": 1}', "no JSON"):
            unlock = (*bearer(operator), ("durabletask-unlock", asked))
            refusal(stub.CleanEntityStorage, pb.CleanEntityStorageRequest(), metadata=unlock)
        stub.CleanEntityStorage(pb.CleanEntityStorageRequest(), metadata=bearer(operator), timeout=WAIT)
    lines = [record.getMessage() for record in caplog.records if record.name == "durabletask_scheduler.audit"]
    assert lines == [
        'who="shop" what=CleanEntityStorage hub="orders" id="@stock@a" outcome=NOT_FOUND',
        *['who="shop" what=CleanEntityStorage hub="orders" id="(by force)" outcome=INVALID_ARGUMENT'] * 3,
        'who="shop" what=CleanEntityStorage hub="orders" id="" outcome=OK',
    ]


def test_what_workers_do_is_audited_on_request(stub, tokens, caplog):
    token = tokens.add("w", ["worker", "operator"], "orders")
    with caplog.at_level(logging.DEBUG, logger="durabletask_scheduler.audit"):
        stub.StartInstance(START, metadata=bearer(token), timeout=WAIT)
        item = next(stub.GetWorkItems(WORK, metadata=bearer(token), timeout=WAIT))
        answer = pb.OrchestratorResponse(instanceId="order-7", completionToken=item.completionToken)
        stub.CompleteOrchestratorTask(answer, metadata=bearer(token), timeout=WAIT)
    assert 'who="w" what=GetWorkItems hub="orders" id="" outcome=OPENED' in caplog.text
    assert 'who="w" what=CompleteOrchestratorTask hub="orders" id="order-7" outcome=OK' in caplog.text


def test_in_process_channels_need_no_token(server_files, tokens, connect_plainly, refusal):
    from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc

    with Scheduler() as scheduler:
        port = scheduler.serve(port=0, security=Security(token_file=str(tokens.path)))
        pb_grpc.TaskHubSidecarServiceStub(scheduler.channel()).StartInstance(START, timeout=WAIT)
        assert refusal(connect_plainly(port).StartInstance, START)[0] is UNAUTHENTICATED


def test_health_needs_no_token_for_probes_have_none(serve, tokens):
    port = serve(Security(token_file=str(tokens.path)))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WAIT) == b"\x08\x01"


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (Security(), "reachable from other machines and there is no authentication"),
        (Security(tls=TlsFiles("c", "k")), "reachable from other machines and there is no authentication"),
        (Security(token_file="tokens"), "in clear text"),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_a_port_that_others_can_reach_must_be_protected(security, host, expected):
    with Scheduler() as scheduler, pytest.raises(SecurityError, match=expected):
        scheduler.serve(host, 0, security=security)


@pytest.mark.parametrize(
    "security",
    [
        Security(allow_unauthenticated=True),
        Security(token_file="tokens", allow_plaintext=True),
        Security(TlsFiles("c", "k"), "tokens"),
        Security(TlsFiles("c", "k", "ca")),
    ],
)
def test_a_port_that_is_protected_or_open_on_request_may_be_opened(security):
    security.check("0.0.0.0")


HEX = token_digest("dts_x")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a worker\n", r"tokens, line 1: expected NAME ROLE\[,ROLE\] HUB\|\* sha256:HEX.*; found 2 fields"),
        (f"\n# x\na boss * sha256:{HEX}\n", "line 3: unknown role 'boss'; expected reader, operator, worker, admin"),
        (f"a worker, * sha256:{HEX}\n", "unknown role ''"),
        ("a worker * dts_in-clear\n", "the last field is not sha256:"),
        (f"a worker * sha256:{HEX.upper()}\n", "the last field is not sha256:"),
        (f"a worker * sha256:{HEX}\nb worker * sha256:{HEX}\n", "line 2: the token of 'a' is listed again for 'b'"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (None, "cannot read the token file .*: No such file"),
    ],
)
def test_a_token_file_that_is_wrong_is_refused_without_showing_what_may_be_secret(tmp_path, content, expected):
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SecurityError, match=expected) as caught:
        TokenFile(str(path))
    assert "in-clear" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hub"), [("", "h"), ("a b", "h"), ("a", ""), ("#a", "h"), ("a", "two hubs"), ("a", "h#1")]
)
def test_a_token_line_that_could_not_be_read_is_not_made(name, hub):
    with pytest.raises(SecurityError, match="without spaces"):
        token_line(name, ["reader"], hub, new_token())
