-- Each statement finds what must not be, in any store: rows of (key, what it concerns).

-- name: unknown_hub
SELECT key, hub FROM instances WHERE hub NOT IN (SELECT key FROM task_hubs)

-- name: orphan_started
SELECT instance_key, instance_key FROM started_events WHERE instance_key NOT IN (SELECT key FROM instances)

-- name: orphan_history
SELECT key, instance_key FROM history WHERE instance_key NOT IN (SELECT key FROM instances)

-- name: orphan_task
SELECT key, instance_key FROM open_tasks WHERE instance_key NOT IN (SELECT key FROM instances)

-- name: orphan_inbox
SELECT key, instance_key FROM inbox WHERE instance_key NOT IN (SELECT key FROM instances)

-- name: unknown_hub_of_entity
SELECT key, hub FROM entities WHERE hub NOT IN (SELECT key FROM task_hubs)

-- name: orphan_entity_inbox
SELECT key, entity_key FROM entity_inbox WHERE entity_key NOT IN (SELECT key FROM entities)

-- name: half_a_lock
SELECT key, instance_id FROM entities WHERE (locked_since > 0) <> (lock_instance_id <> '')

-- A lock that its owner has given back ends with the last operation that the owner has sent before.
-- name: dead_owner
SELECT e.key, e.instance_id
FROM entities AS e
LEFT JOIN instances AS i
ON i.hub = e.hub AND i.instance_id = e.lock_instance_id AND i.execution_id = e.lock_execution_id
WHERE
    e.locked_since > 0 AND (i.key IS NULL OR i.status IN (1, 3, 4, 5))
    AND NOT EXISTS (
        SELECT 1 FROM entity_inbox AS n
        WHERE
            n.entity_key = e.key AND n.sender_instance_id = e.lock_instance_id
            AND n.sender_execution_id = e.lock_execution_id
    )

-- name: no_started
SELECT key, instance_id FROM instances
WHERE status NOT IN (1, 3, 4, 5) AND key NOT IN (SELECT instance_key FROM started_events)

-- name: no_completed
SELECT key, instance_id FROM instances WHERE status IN (1, 3, 4, 5) AND (length(completed) = 0 OR completed_at = 0)

-- name: completed_but_live
SELECT key, instance_id FROM instances WHERE status NOT IN (1, 3, 4, 5) AND (length(completed) > 0 OR completed_at > 0)

-- name: open_at_end
SELECT t.key, i.instance_id
FROM open_tasks AS t JOIN instances AS i ON i.key = t.instance_key
WHERE i.status IN (1, 3, 4, 5)

-- name: inbox_at_end
SELECT n.key, i.instance_id
FROM inbox AS n JOIN instances AS i ON i.key = n.instance_key
WHERE i.status IN (1, 3, 4, 5)

-- name: task_without_history
SELECT t.key, i.instance_id
FROM open_tasks AS t
JOIN instances AS i ON i.key = t.instance_key
LEFT JOIN history AS r ON r.key = t.history_key AND r.instance_key = t.instance_key
WHERE r.key IS NULL

-- The started event is counted with the first row of its generation.
-- name: event_count
SELECT key, instance_id || ': ' || event_count || ' instead of ' || expected
FROM (
    SELECT
        i.key, i.instance_id, i.event_count,
        coalesce((SELECT sum(r.count) + 1 FROM history AS r WHERE r.instance_key = i.key), 0)
        + CASE WHEN length(i.completed) > 0 THEN 1 ELSE 0 END AS expected
    FROM instances AS i
) AS counted
WHERE event_count <> expected
