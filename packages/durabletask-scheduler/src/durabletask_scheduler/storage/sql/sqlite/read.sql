-- name: last_key
SELECT max(
    (SELECT coalesce(max(key), 0) FROM instances),
    (SELECT coalesce(max(key), 0) FROM history),
    (SELECT coalesce(max(key), 0) FROM open_tasks),
    (SELECT coalesce(max(key), 0) FROM inbox),
    (SELECT coalesce(max(key), 0) FROM entities),
    (SELECT coalesce(max(key), 0) FROM entity_inbox)
);

-- name: task_hubs
SELECT name, key FROM task_hubs ORDER BY name;

-- name: key_of
SELECT i.key FROM task_hubs AS h CROSS JOIN instances AS i ON i.hub = h.key WHERE h.name = ? AND i.instance_id = ?;

-- name: existing
SELECT i.instance_id
FROM task_hubs AS h
CROSS JOIN json_each(?) AS wanted
CROSS JOIN instances AS i ON i.hub = h.key AND i.instance_id = wanted.value
WHERE h.name = ?;

-- name: instance_by_key
SELECT
    i.key, h.name, i.instance_id, i.execution_id, i.name, i.version, i.status, i.created_at, i.updated_at,
    coalesce(s.event, x''), i.scheduled_at, i.completed_at, i.completed, i.custom_status, nullif(i.tags, '{}'),
    i.parent_instance_id, i.parent_execution_id, i.parent_task_id, i.event_count, i.clock, i.trace_context
FROM instances AS i
CROSS JOIN task_hubs AS h ON h.key = i.hub
LEFT JOIN started_events AS s ON s.instance_key = i.key
WHERE i.key = ?;

-- name: instances_by_id
SELECT
    i.key, h.name, i.instance_id, i.execution_id, i.name, i.version, i.status, i.created_at, i.updated_at,
    coalesce(s.event, x''), i.scheduled_at, i.completed_at, i.completed, i.custom_status, nullif(i.tags, '{}'),
    i.parent_instance_id, i.parent_execution_id, i.parent_task_id, i.event_count, i.clock, i.trace_context
FROM task_hubs AS h
CROSS JOIN json_each(?) AS wanted
CROSS JOIN instances AS i ON i.hub = h.key AND i.instance_id = wanted.value
LEFT JOIN started_events AS s ON s.instance_key = i.key
WHERE h.name = ?;

-- name: open_tasks_of_many
SELECT t.instance_key, t.key, t.kind, t.task_id, t.history_key, t.due_at, t.target
FROM json_each(?) AS wanted
CROSS JOIN open_tasks AS t ON t.instance_key = wanted.value
ORDER BY t.key;

-- name: inbox_of_many
SELECT n.instance_key, n.key, n.event
FROM json_each(?) AS wanted
CROSS JOIN inbox AS n ON n.instance_key = wanted.value
ORDER BY n.key;

-- name: history_of_many
SELECT r.instance_key, r.key, r.instance_key, r.events, r.count
FROM json_each(?) AS wanted
CROSS JOIN history AS r ON r.instance_key = wanted.value
ORDER BY r.key;

-- name: open_tasks
SELECT key, kind, task_id, history_key, due_at, target FROM open_tasks WHERE instance_key = ? ORDER BY key;

-- name: inbox
SELECT key, event FROM inbox WHERE instance_key = ? ORDER BY key;

-- name: history
SELECT key, instance_key, events, count FROM history WHERE instance_key = ? ORDER BY key;

-- name: history_row
SELECT key, instance_key, events, count FROM history WHERE key = ?;

-- An instance without committed events has its first turn before it. 1 and 2 are the kinds of
-- activities and timers.
-- name: live
SELECT
    i.key,
    h.name,
    i.instance_id,
    CASE
        WHEN EXISTS (SELECT 1 FROM inbox AS n WHERE n.instance_key = i.key) THEN 0
        WHEN i.event_count = 0 THEN i.scheduled_at
        WHEN EXISTS (SELECT 1 FROM open_tasks AS a WHERE a.instance_key = i.key AND a.kind = 1) THEN 0
        ELSE coalesce((SELECT min(t.due_at) FROM open_tasks AS t WHERE t.instance_key = i.key AND t.kind = 2), -1)
    END
FROM task_hubs AS h
CROSS JOIN instances AS i INDEXED BY instances_by_status ON i.hub = h.key
WHERE i.status IN (0, 2, 6, 7)
ORDER BY i.key;

-- name: children
SELECT i.instance_id
FROM task_hubs AS h
CROSS JOIN instances AS i INDEXED BY instances_by_parent ON i.hub = h.key
WHERE h.name = ? AND i.parent_instance_id = ? AND i.parent_instance_id <> ''
ORDER BY i.key;
