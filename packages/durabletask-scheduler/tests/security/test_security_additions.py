"""The calls beyond the protocol want the same roles as those that they stand for, and are audited like them."""

from __future__ import annotations

import logging

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_proto import scheduler_additions_pb2_grpc as additions_pb_grpc
from durabletask_scheduler.security import Security, TlsFiles
from durabletask_scheduler.security.roles import KINDS, ROLES
from durabletask_scheduler.security.tokens import new_token, token_line

WAIT = 10
STARTS = additions_pb.StartInstancesRequest(
    requests=[
        pb.CreateInstanceRequest(instanceId=one, name="order") for one in ("a", "b", "@an@entity", 'x" outcome=OK\n')
    ]
)
COUNT = additions_pb.CountInstancesRequest()
ANSWERS = additions_pb.CompleteWorkItemsRequest(
    answers=[additions_pb.WorkItemAnswer(activity=pb.ActivityResponse(instanceId="a", completionToken="t"))]
)


@pytest.fixture
def tokens(tmp_path):
    """A token for each role in the task hub ``orders``."""
    tokens = {role: new_token() for role in ROLES}
    (tmp_path / "tokens").write_text("".join(f"{token_line(r, [r], 'orders', t)}\n" for r, t in tokens.items()))
    return tokens


@pytest.fixture
def stub(serve, authority, server_files, tokens, tmp_path):
    port = serve(Security(TlsFiles(*server_files), str(tmp_path / "tokens")))
    with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority.pem)) as channel:
        yield additions_pb_grpc.SchedulerAdditionsStub(channel)


def bearer(token, task_hub="orders"):
    return (("authorization", f"Bearer {token}"), ("taskhub", task_hub))


@pytest.mark.parametrize(
    ("rpc", "request_", "like"),
    [
        ("StartInstances", STARTS, "StartInstance"),
        ("CountInstances", COUNT, "QueryInstances"),
        ("CompleteWorkItems", ANSWERS, "CompleteActivityTask"),
    ],
)
def test_they_want_the_role_that_their_public_peer_wants(stub, tokens, refusal, rpc, request_, like):
    assert KINDS[rpc] is KINDS[like]
    permitted = {"StartInstance": {"operator", "admin"}, "CompleteActivityTask": {"worker", "admin"}}
    for role, token in tokens.items():
        call = getattr(stub, rpc)
        if role in permitted.get(like, {"reader", "operator", "admin"}):
            call(request_, metadata=bearer(token), timeout=WAIT)
        else:
            assert refusal(call, request_, metadata=bearer(token))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert refusal(call, request_, metadata=bearer(token, "billing"))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert refusal(call, request_)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_every_start_and_every_answer_has_its_line_in_the_audit_log(stub, tokens, refusal, caplog):
    with caplog.at_level(logging.DEBUG, logger="durabletask_scheduler.audit"):
        stub.StartInstances(STARTS, metadata=bearer(tokens["operator"]), timeout=WAIT)
        stub.CountInstances(COUNT, metadata=bearer(tokens["reader"]), timeout=WAIT)
        stub.CompleteWorkItems(ANSWERS, metadata=bearer(tokens["worker"]), timeout=WAIT)
        refusal(stub.StartInstances, STARTS, metadata=bearer(tokens["reader"]))
    lines = [record.getMessage() for record in caplog.records if record.name == "durabletask_scheduler.audit"]
    assert lines == [
        'who="operator" what=StartInstances hub="orders" id="a" outcome=OK',
        'who="operator" what=StartInstances hub="orders" id="b" outcome=OK',
        'who="operator" what=StartInstances hub="orders" id="@an@entity" outcome=INVALID_ARGUMENT',
        'who="operator" what=StartInstances hub="orders" id="x\\" outcome=OK\\n" outcome=INVALID_ARGUMENT',
        'who="worker" what=CompleteWorkItems hub="orders" id="a" outcome=OK',
        'who="reader" what=StartInstances hub="orders" id="" outcome=PERMISSION_DENIED '
        'reason="no role for it in this task hub"',
    ]
