-- The statements of one group, each run once over many rows, in this order. Types in braces stand for a row of such
-- values, or for many; $3... stands for the third value of each.

-- name: delete_history
DELETE FROM history WHERE instance_key = ANY (ARRAY[{bigint}]);

-- name: delete_open_tasks
DELETE FROM open_tasks WHERE instance_key = ANY (ARRAY[{bigint}]);

-- name: delete_inbox
DELETE FROM inbox WHERE instance_key = ANY (ARRAY[{bigint}]);

-- name: delete_started
DELETE FROM started_events WHERE instance_key = ANY (ARRAY[{bigint}]);

-- name: delete_instance
DELETE FROM instances WHERE key = ANY (ARRAY[{bigint}]);

-- name: insert_instance
INSERT INTO instances (
    updated_at, scheduled_at, clock, event_count, execution_id, name, version, trace_context, tags,
    custom_status, parent_task_id, parent_execution_id, status, created_at, completed_at, completed, key, hub,
    instance_id, parent_instance_id
) VALUES {
    bigint, bigint, bigint, bigint, text, text, text, bytea, jsonb, text, bigint, text, bigint, bigint, bigint,
    bytea, bigint, bigint, text, text
};

-- The keys once more, so that they are looked up in whatever order the server joins the two.
-- PostgreSQL itself compares what indexes hold: an update that changes none of it leaves them alone.
-- name: update_instance
UPDATE instances SET
    updated_at = new.updated_at, scheduled_at = new.scheduled_at, clock = new.clock,
    event_count = new.event_count, execution_id = new.execution_id, name = new.name, version = new.version,
    trace_context = new.trace_context, tags = new.tags, custom_status = new.custom_status,
    parent_task_id = new.parent_task_id, parent_execution_id = new.parent_execution_id, status = new.status,
    created_at = new.created_at, completed_at = new.completed_at, completed = new.completed
FROM (VALUES {
    bigint, bigint, bigint, bigint, text, text, text, bytea, jsonb, text, bigint, text, bigint, bigint, bigint,
    bytea, bigint
}) AS new (
    updated_at, scheduled_at, clock, event_count, execution_id, name, version, trace_context, tags,
    custom_status, parent_task_id, parent_execution_id, status, created_at, completed_at, completed, key
)
WHERE instances.key = new.key AND instances.key = ANY (ARRAY[$17...]);

-- name: put_started
INSERT INTO started_events (instance_key, event) VALUES {bigint, bytea}
ON CONFLICT (instance_key) DO UPDATE SET event = excluded.event;

-- name: insert_history
INSERT INTO history (key, instance_key, count, events) VALUES {bigint, bigint, bigint, bytea};

-- name: close_task
DELETE FROM open_tasks WHERE key = ANY (ARRAY[{bigint}]);

-- name: open_task
INSERT INTO open_tasks (key, instance_key, kind, due_at, task_id, history_key, target)
VALUES {bigint, bigint, bigint, bigint, bigint, bigint, text};

-- name: remove_inbox
DELETE FROM inbox WHERE key = ANY (ARRAY[{bigint}]);

-- name: add_inbox
INSERT INTO inbox (key, instance_key, event) VALUES {bigint, bigint, bytea};

-- name: delete_entity_inbox
DELETE FROM entity_inbox WHERE entity_key = ANY (ARRAY[{bigint}]);

-- name: delete_entity
DELETE FROM entities WHERE key = ANY (ARRAY[{bigint}]);

-- name: insert_entity
INSERT INTO entities (
    modified_at, locked_since, execution_id, lock_instance_id, lock_execution_id, lock_section, state, key, hub,
    instance_id
) VALUES {
    bigint, bigint, text, text, text, text, text, bigint, bigint, text
};

-- name: update_entity
UPDATE entities SET
    modified_at = new.modified_at, locked_since = new.locked_since, execution_id = new.execution_id,
    lock_instance_id = new.lock_instance_id, lock_execution_id = new.lock_execution_id,
    lock_section = new.lock_section, state = new.state
FROM (VALUES {
    bigint, bigint, text, text, text, text, text, bigint
}) AS new (
    modified_at, locked_since, execution_id, lock_instance_id, lock_execution_id, lock_section, state, key
)
WHERE entities.key = new.key AND entities.key = ANY (ARRAY[$8...]);

-- name: remove_entity_inbox
DELETE FROM entity_inbox WHERE key = ANY (ARRAY[{bigint}]);

-- name: add_entity_inbox
INSERT INTO entity_inbox (key, entity_key, due_at, sender_instance_id, sender_execution_id, event)
VALUES {bigint, bigint, bigint, text, text, bytea};

-- name: add_task_hub
INSERT INTO task_hubs (name) VALUES {text} ON CONFLICT (name) DO NOTHING;
