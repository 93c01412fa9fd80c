-- The statements of one group, each run once over many rows, in this order.

-- name: delete_history
DELETE FROM history WHERE instance_key = ?;

-- name: delete_open_tasks
DELETE FROM open_tasks WHERE instance_key = ?;

-- name: delete_inbox
DELETE FROM inbox WHERE instance_key = ?;

-- name: delete_started
DELETE FROM started_events WHERE instance_key = ?;

-- name: delete_instance
DELETE FROM instances WHERE key = ?;

-- name: insert_instance
INSERT INTO instances (
    updated_at, scheduled_at, clock, event_count, execution_id, name, version,
    trace_context, tags, custom_status, parent_task_id, parent_execution_id,
    status, created_at, completed_at, completed, key, hub, instance_id, parent_instance_id
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- Most turns change nothing that an index holds: this one finds only the rows of which that is true.
-- completed is set exactly when completed_at is.
-- name: update_in_place
UPDATE instances SET
    updated_at = ?, scheduled_at = ?, clock = ?, event_count = ?, execution_id = ?, name = ?, version = ?,
    trace_context = ?, tags = ?, custom_status = ?, parent_task_id = ?, parent_execution_id = ?
WHERE key = ? AND status = ? AND created_at = ? AND completed_at = 0;

-- name: update_instance
UPDATE instances SET
    updated_at = ?, scheduled_at = ?, clock = ?, event_count = ?, execution_id = ?, name = ?, version = ?,
    trace_context = ?, tags = ?, custom_status = ?, parent_task_id = ?, parent_execution_id = ?,
    status = ?, created_at = ?, completed_at = ?, completed = ?
WHERE key = ?;

-- name: put_started
INSERT OR REPLACE INTO started_events (instance_key, event) VALUES (?, ?);

-- name: insert_history
INSERT INTO history (key, instance_key, count, events) VALUES (?, ?, ?, ?);

-- name: close_task
DELETE FROM open_tasks WHERE key = ?;

-- name: open_task
INSERT INTO open_tasks (key, instance_key, kind, due_at, task_id, history_key, target) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: remove_inbox
DELETE FROM inbox WHERE key = ?;

-- name: add_inbox
INSERT INTO inbox (key, instance_key, event) VALUES (?, ?, ?);

-- name: add_task_hub
INSERT OR IGNORE INTO task_hubs (name) VALUES (?);
