-- name: last_key
SELECT greatest(
    (SELECT coalesce(max(key), 0) FROM instances),
    (SELECT coalesce(max(key), 0) FROM history),
    (SELECT coalesce(max(key), 0) FROM open_tasks),
    (SELECT coalesce(max(key), 0) FROM inbox),
    (SELECT coalesce(max(key), 0) FROM entities),
    (SELECT coalesce(max(key), 0) FROM entity_inbox)
);

-- name: task_hubs
SELECT name, key FROM task_hubs ORDER BY name;

-- name: existing
SELECT instance_id FROM instances WHERE hub = %(hub)s AND instance_id = ANY(%(ids)s);

-- An instance is loaded with all that is open in one round trip: by its key, by its id, or among others by their ids.
-- Rows are ordered by an expression: a server that takes a table to be empty (until it has analyzed it, or after it was)
-- would find that walking all of it by its primary key spares the sorting, and keep that plan when there are many rows.
-- Nor may it begin with another table, as it may with one that is joined.
-- name: instances
SELECT
    i.key, (SELECT h.name FROM task_hubs AS h WHERE h.key = i.hub),
    i.instance_id, i.execution_id, i.name, i.version, i.status, i.created_at, i.updated_at,
    coalesce((SELECT s.event FROM started_events AS s WHERE s.instance_key = i.key), ''),
    i.scheduled_at, i.completed_at, i.completed, i.custom_status, i.tags,
    i.parent_instance_id, i.parent_execution_id, i.parent_task_id, i.event_count, i.clock, i.trace_context
FROM instances AS i
WHERE i.key {which};

-- name: open_tasks
SELECT instance_key, key, kind, task_id, history_key, due_at, target
FROM open_tasks WHERE instance_key {which} ORDER BY key + 0;

-- name: inbox
SELECT instance_key, key, event FROM inbox WHERE instance_key {which} ORDER BY key + 0;

-- name: history_of_many
SELECT instance_key, key, instance_key, events, count FROM history WHERE instance_key {which} ORDER BY key + 0;

-- name: of_key
= %(key)s

-- name: of_id
= (SELECT key FROM instances WHERE hub = %(hub)s AND instance_id = %(id)s)

-- name: of_ids
= ANY(ARRAY(SELECT key FROM instances WHERE hub = %(hub)s AND instance_id = ANY(%(ids)s)))

-- name: of_ids_and_short
= ANY(ARRAY(
    SELECT key FROM instances WHERE hub = %(hub)s AND instance_id = ANY(%(ids)s) AND event_count <= %(short)s
))

-- name: history
SELECT key, instance_key, events, count FROM history WHERE instance_key = %(key)s ORDER BY key + 0;

-- name: history_row
SELECT key, instance_key, events, count FROM history WHERE key = %(key)s;

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
FROM instances AS i
JOIN task_hubs AS h ON h.key = i.hub
WHERE i.hub = ANY(ARRAY(SELECT key FROM task_hubs)) AND i.status >= 0 AND i.status IN (0, 2, 6, 7)
ORDER BY i.key;

-- name: children
SELECT instance_id FROM instances
WHERE hub = %(hub)s AND parent_instance_id = %(parent)s AND parent_instance_id <> ''
ORDER BY key;
