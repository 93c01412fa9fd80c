-- name: entity
SELECT
    e.key, h.name, e.instance_id, e.execution_id, e.modified_at, e.state,
    e.locked_since, e.lock_instance_id, e.lock_execution_id, e.lock_section
FROM entities AS e
JOIN task_hubs AS h ON h.key = e.hub
WHERE e.hub = %(hub)s AND e.instance_id = %(id)s;

-- Ordered as what is loaded of instances is, see read.sql.
-- name: entity_inbox
SELECT key, due_at, sender_instance_id, sender_execution_id, event
FROM entity_inbox
WHERE entity_key = (SELECT key FROM entities WHERE hub = %(hub)s AND instance_id = %(id)s)
ORDER BY key + 0;

-- Entities at which nothing waits have nothing to do.
-- name: waiting_entities
SELECT h.name, e.instance_id, n.wake_at
FROM (SELECT entity_key, min(due_at) AS wake_at FROM entity_inbox GROUP BY entity_key) AS n
JOIN entities AS e ON e.key = n.entity_key
JOIN task_hubs AS h ON h.key = e.hub
ORDER BY e.key;

-- name: page_of_entities
SELECT
    instance_id, modified_at, (SELECT count(*) FROM entity_inbox AS n WHERE n.entity_key = e.key), state IS NOT NULL,
    {state}, locked_since, lock_instance_id, lock_execution_id, lock_section
FROM entities AS e
WHERE hub = %(hub)s

-- name: in_order
ORDER BY instance_id LIMIT %(limit)s

-- Conditions that a filter adds.

-- name: where_with_state
AND state IS NOT NULL

-- name: where_locked
AND locked_since > 0

-- name: where_stateless
AND state IS NULL

-- name: where_after
AND instance_id > %(after)s

-- name: where_id_from
AND instance_id >= %(id_from)s

-- name: where_id_to
AND instance_id < %(id_to)s

-- name: where_modified_from
AND modified_at >= %(modified_from)s

-- name: where_modified_to
AND modified_at <= %(modified_to)s
