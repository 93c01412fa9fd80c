"""The client of the scheduled task: creates a schedule, watches it, pauses, resumes, triggers and deletes it."""

from __future__ import annotations

import sys
import uuid
from datetime import timedelta

from connection import TIMEOUT, new_client, wait_until
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationQuery
from durabletask.scheduled import ScheduleCreationOptions, ScheduledTaskClient, ScheduleUpdateOptions


def run(client: DurableTaskSchedulerClient) -> bool:
    schedule_id = f"sales-{uuid.uuid4().hex[:8]}"
    schedules = ScheduledTaskClient(client, operation_timeout=TIMEOUT)

    def runs() -> list[str]:
        # Each start is an instance of its own; the schedule's id begins its id.
        query = OrchestrationQuery(instance_id_prefix=f"{schedule_id}-")
        return [state.instance_id for state in client.get_all_orchestration_states(query)]

    schedule = schedules.create_schedule(
        ScheduleCreationOptions(schedule_id, "report", timedelta(seconds=1), orchestration_input="sales")
    )
    print(f"Created: {schedule.describe().status.name}")
    wait_until("two reports were started", lambda: len(runs()) >= 2)
    state = client.wait_for_orchestration_completion(runs()[0], timeout=TIMEOUT)
    result = None if state is None else state.get_output()
    print(f"Result of a scheduled start: {result}")

    schedule.pause()
    print(f"Paused: {schedule.describe().status.name}")
    schedule.update(ScheduleUpdateOptions(interval=timedelta(hours=1), orchestration_input="returns"))
    triggered = client.wait_for_orchestration_completion(schedule.trigger(), timeout=TIMEOUT)
    by_hand = None if triggered is None else triggered.get_output()
    print(f"Result of a start by hand: {by_hand}")
    schedule.resume()
    print(f"Resumed: {schedule.describe().status.name}, every {schedule.describe().interval}")

    schedule.delete()
    gone = schedules.get_schedule(schedule_id) is None
    print(f"Deleted: {gone}")
    return gone and (result, by_hand) == ("report on sales", "report on returns")


if __name__ == "__main__":
    with new_client() as client:
        sys.exit(0 if run(client) else 1)
