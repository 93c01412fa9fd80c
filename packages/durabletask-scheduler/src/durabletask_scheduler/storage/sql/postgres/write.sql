-- The statements of one group, each run once over many rows, in this order.

-- name: delete_history
DELETE FROM history WHERE instance_key = $1;

-- name: delete_open_tasks
DELETE FROM open_tasks WHERE instance_key = $1;

-- name: delete_inbox
DELETE FROM inbox WHERE instance_key = $1;

-- name: delete_started
DELETE FROM started_events WHERE instance_key = $1;

-- name: delete_instance
DELETE FROM instances WHERE key = $1;

-- name: insert_instance
INSERT INTO instances (
    updated_at, scheduled_at, clock, event_count, execution_id, name, version,
    trace_context, tags, custom_status, parent_task_id, parent_execution_id,
    status, created_at, completed_at, completed, key, hub, instance_id, parent_instance_id
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20);

-- PostgreSQL itself compares what indexes hold: an update that changes none of it leaves them alone.
-- name: update_instance
UPDATE instances SET
    updated_at = $1, scheduled_at = $2, clock = $3, event_count = $4, execution_id = $5, name = $6, version = $7,
    trace_context = $8, tags = $9, custom_status = $10, parent_task_id = $11, parent_execution_id = $12,
    status = $13, created_at = $14, completed_at = $15, completed = $16
WHERE key = $17;

-- name: put_started
INSERT INTO started_events (instance_key, event) VALUES ($1, $2)
ON CONFLICT (instance_key) DO UPDATE SET event = excluded.event;

-- name: insert_history
INSERT INTO history (key, instance_key, count, events) VALUES ($1, $2, $3, $4);

-- name: close_task
DELETE FROM open_tasks WHERE key = $1;

-- name: open_task
INSERT INTO open_tasks (key, instance_key, kind, due_at, task_id, history_key, target)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: remove_inbox
DELETE FROM inbox WHERE key = $1;

-- name: add_inbox
INSERT INTO inbox (key, instance_key, event) VALUES ($1, $2, $3);

-- name: delete_entity_inbox
DELETE FROM entity_inbox WHERE entity_key = $1;

-- name: delete_entity
DELETE FROM entities WHERE key = $1;

-- name: insert_entity
INSERT INTO entities (
    modified_at, locked_since, execution_id, lock_instance_id, lock_execution_id, lock_section, state,
    key, hub, instance_id
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: update_entity
UPDATE entities SET
    modified_at = $1, locked_since = $2, execution_id = $3, lock_instance_id = $4, lock_execution_id = $5,
    lock_section = $6, state = $7
WHERE key = $8;

-- name: remove_entity_inbox
DELETE FROM entity_inbox WHERE key = $1;

-- name: add_entity_inbox
INSERT INTO entity_inbox (key, entity_key, due_at, sender_instance_id, sender_execution_id, event)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: add_task_hub
INSERT INTO task_hubs (name) VALUES ($1) ON CONFLICT (name) DO NOTHING;
