"""The calls beyond the protocol want the same roles as those that they stand for, and are audited like them."""

from __future__ import annotations

import contextlib
import logging
import queue

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


def opening(task_hub="orders"):
    """The frame that opens a stream, with an answer."""
    answer = additions_pb.WorkItemAnswer(number=1, activity=pb.ActivityResponse(instanceId="a", completionToken="t"))
    return additions_pb.WorkerFrame(open=pb.GetWorkItemsRequest(), taskHub=task_hub, answers=[answer])


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


@contextlib.contextmanager
def working(stub, token, frames=None):
    """An open stream of a worker, which has sent one answer and then sends ``frames``."""
    frames = frames or queue.SimpleQueue()
    frames.put(opening())
    call = stub.Work(iter(frames.get, None), metadata=bearer(token), timeout=WAIT)
    yield call
    call.cancel()
    frames.put(None)


def taken(call):
    """The numbers of the next answers that count as delivered; work items may come before."""
    return next(list(frame.taken) for frame in call if frame.taken)


def bearer(token, task_hub="orders"):
    return (("authorization", f"Bearer {token}"), ("taskhub", task_hub))


@pytest.mark.parametrize(
    ("rpc", "request_", "like"),
    [
        ("StartInstances", STARTS, "StartInstance"),
        ("CountInstances", COUNT, "QueryInstances"),
    ],
)
def test_they_want_the_role_that_their_public_peer_wants(stub, tokens, refusal, rpc, request_, like):
    assert KINDS[rpc] is KINDS[like]
    permitted = {"StartInstance": {"operator", "admin"}}
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
        with working(stub, tokens["worker"]) as work:
            assert taken(work) == [1]
        refusal(stub.Work, iter([opening()]), metadata=bearer(tokens["reader"]))
        refusal(stub.StartInstances, STARTS, metadata=bearer(tokens["reader"]))
    lines = [record.getMessage() for record in caplog.records if record.name == "durabletask_scheduler.audit"]
    assert lines == [
        'who="operator" what=StartInstances hub="orders" id="a" outcome=OK',
        'who="operator" what=StartInstances hub="orders" id="b" outcome=OK',
        'who="operator" what=StartInstances hub="orders" id="@an@entity" outcome=INVALID_ARGUMENT',
        'who="operator" what=StartInstances hub="orders" id="x\\" outcome=OK\\n" outcome=INVALID_ARGUMENT',
        'who="worker" what=Work hub="orders" id="" outcome=OPENED',
        'who="worker" what=CompleteActivityTask hub="orders" id="a" outcome=OK',
        'who="reader" what=Work hub="orders" id="" outcome=PERMISSION_DENIED reason="no role for it in this task hub"',
        'who="reader" what=StartInstances hub="orders" id="" outcome=PERMISSION_DENIED '
        'reason="no role for it in this task hub"',
    ]


def test_the_stream_of_workers_wants_the_role_that_getting_work_items_and_completing_them_wants(stub, tokens, refusal):
    assert KINDS["Work"] is KINDS["GetWorkItems"] is KINDS["CompleteActivityTask"]
    for role, token in tokens.items():
        if role in {"worker", "admin"}:
            with working(stub, token) as work:
                assert taken(work) == [1]
        else:
            assert refusal(stub.Work, iter([opening()]), metadata=bearer(token))[0] is grpc.StatusCode.PERMISSION_DENIED
        elsewhere = iter([opening("billing")])
        assert refusal(stub.Work, elsewhere, metadata=bearer(token, "billing"))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert refusal(stub.Work, iter([opening("")]))[0] is grpc.StatusCode.UNAUTHENTICATED


def test_an_answer_under_a_revoked_token_ends_the_stream_and_has_no_effect(
    serve, authority, server_files, tmp_path, caplog
):
    token = new_token()
    (tmp_path / "tokens").write_text(f"{token_line('w', ['worker'], 'orders', token)}\n")
    port = serve(Security(TlsFiles(*server_files), str(tmp_path / "tokens"), token_check_seconds=0))
    with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority.pem)) as channel:
        stub, more = additions_pb_grpc.SchedulerAdditionsStub(channel), queue.SimpleQueue()
        with working(stub, token, more) as work:
            assert taken(work) == [1]
            (tmp_path / "tokens").write_text("# nobody\n")
            more.put(additions_pb.WorkerFrame(answers=opening().answers))
            with pytest.raises(grpc.RpcError) as caught:
                taken(work)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    reason = '"the token that opened the stream was revoked or lost its role"'
    end = f'who="w" what=CompleteActivityTask hub="orders" id="" outcome=UNAUTHENTICATED reason={reason}'
    assert end in [record.getMessage() for record in caplog.records]
